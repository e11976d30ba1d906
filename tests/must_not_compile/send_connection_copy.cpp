// expect: a value with a connection or descriptor in it goes to the other end
#include <brood/connection.hpp>

void refused(brood::Connection& through, brood::Connection& other) { through.send(other); }
