// expect: a connection or descriptor cannot be in what a pool computes with
#include <brood/connection.hpp>
#include <brood/pool.hpp>

#include <utility>

int answer(brood::Connection connection) { return connection.recv<int>(); }

void refused(brood::Pool& pool, brood::Connection connection) {
  pool.submit(answer, std::move(connection));
}
