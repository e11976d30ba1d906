# What ctest reads at its start where a suite is one test (BROOD_TEST_WHOLE_SUITES): adds them, as
# <PREFIX><Suite>, for the tests in the Google Test program BINARY that FILTER leaves.
# Reads BINARY, PREFIX, FILTER, TIMEOUT (seconds).
if(NOT EXISTS "${BINARY}")
  add_test("${PREFIX}NOT_BUILT" "${BINARY}")
  return()
endif()
execute_process(COMMAND "${BINARY}" --gtest_list_tests "--gtest_filter=${FILTER}"
                OUTPUT_VARIABLE listed RESULT_VARIABLE result)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "${BINARY} does not list its tests: ${result}\n${listed}")
endif()
# `Suite.` or `Suite/0.  # TypeParam = int`, then its tests, indented.
string(REPLACE ";" "," listed "${listed}")
string(REPLACE "\n" ";" listed "${listed}")
set(suites "")
foreach(line IN LISTS listed)
  if(line MATCHES "^([A-Za-z0-9_/]+)\\.")
    set(suite "${CMAKE_MATCH_1}")
    list(APPEND suites "${suite}")
    set(count 0)
  elseif(line MATCHES "^  ")
    math(EXPR count "${count} + 1")
    set("count_${suite}" ${count})
  endif()
endforeach()
foreach(suite IN LISTS suites)
  add_test("${PREFIX}${suite}" "${BINARY}" --gtest_brief=1 "--gtest_filter=${suite}.*${FILTER}")
  # Long ones first, as far as the number of their tests tells.
  set_tests_properties("${PREFIX}${suite}" PROPERTIES TIMEOUT ${TIMEOUT} LABELS unit
                                                      COST ${count_${suite}})
endforeach()
