// expect: a connection or descriptor cannot be in what a pool computes with
#include <brood/bind.hpp>
#include <brood/descriptor.hpp>
#include <brood/pool.hpp>

#include <utility>

void keep(const brood::Descriptor& file) { static_cast<void>(file); }

void refused(brood::Descriptor file) {
  brood::Pool pool({.initializer = brood::bind(keep, std::move(file))});
}
