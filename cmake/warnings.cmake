# brood_enable_warnings(<target>): the warnings that our own code is free of. They are never part of
# what the library asks of its users.
function(brood_enable_warnings target)
  target_compile_options(
    ${target}
    PRIVATE -Wall -Wextra -Wconversion -Wshadow $<$<CXX_COMPILER_ID:Clang>:-Wthread-safety>
            $<$<BOOL:${BROOD_WARNINGS_AS_ERRORS}>:-Werror>)
endfunction()
