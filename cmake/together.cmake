# brood_compile_together(<target>): its sources in groups of eight from one folder, which reads what they
# include once: half the time for all of them. Within a folder names in unnamed namespaces are therefore
# used once.
function(brood_compile_together target)
  if(NOT BROOD_COMPILE_TOGETHER)
    return()
  endif()
  get_target_property(sources ${target} SOURCES)
  foreach(source IN LISTS sources)
    cmake_path(GET source PARENT_PATH folder)
    cmake_path(GET folder FILENAME name)
    math(EXPR group "${count_of_${name}}+0")
    math(EXPR count_of_${name} "${group}+1")
    math(EXPR group "${group}/8")
    set_source_files_properties("${source}" PROPERTIES UNITY_GROUP "${name}_${group}")
  endforeach()
  set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_MODE GROUP)
endfunction()
