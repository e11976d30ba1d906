# `cmake --install`: headers, library, and the package for find_package(brood) and pkg-config.
include(CMakePackageConfigHelpers)

set(brood_package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/brood")

install(
  TARGETS brood
  EXPORT brood-targets
  ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}"
  LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}"
  FILE_SET HEADERS DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
install(EXPORT brood-targets NAMESPACE brood:: DESTINATION "${brood_package_dir}")

configure_package_config_file(
  cmake/brood-config.cmake.in brood-config.cmake INSTALL_DESTINATION "${brood_package_dir}")
write_basic_package_version_file(brood-config-version.cmake COMPATIBILITY SameMinorVersion)
install(
  FILES "${CMAKE_CURRENT_BINARY_DIR}/brood-config.cmake"
        "${CMAKE_CURRENT_BINARY_DIR}/brood-config-version.cmake"
  DESTINATION "${brood_package_dir}")

# Paths in the pkg-config file start where it stands, so that the package can be moved.
set(brood_pc_dir "${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig")
foreach(dir PREFIX FULL_LIBDIR FULL_INCLUDEDIR)
  file(RELATIVE_PATH brood_pc_${dir} "${brood_pc_dir}" "${CMAKE_INSTALL_${dir}}")
endforeach()
# Who links a static library links what is behind it, too, and `pkg-config --libs` must say so.
if(BUILD_SHARED_LIBS)
  set(brood_pc_static_requires "")
else()
  set(brood_pc_static_requires ", openssl >= 3")
endif()
configure_file(cmake/brood.pc.in brood.pc @ONLY)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/brood.pc"
        DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
install(FILES LICENSE DESTINATION "${CMAKE_INSTALL_DATAROOTDIR}/doc/brood")
