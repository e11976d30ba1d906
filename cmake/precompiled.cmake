# brood_reuse_precompiled(<target>): gives a program the header that is compiled once for the tests; it
# must have their options.
function(brood_reuse_precompiled target)
  if(BROOD_PRECOMPILE_HEADERS AND TARGET brood_test_support)
    target_compile_definitions(${target} PRIVATE GTEST_HAS_PTHREAD=1) # as GTest::gtest has it
    target_precompile_headers(${target} REUSE_FROM brood_test_support)
  endif()
endfunction()
