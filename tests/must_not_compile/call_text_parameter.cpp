// expect: a pointer to char cannot cross to another process: pass a std::string
#include <brood/bind.hpp>

void print(const char* text);

void refused() { brood::detail::require_callable<decltype(print), const char(&)[6]>(); }
