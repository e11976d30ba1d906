# `cmake --install`: headers, library, programs, and the package for find_package(brood) and
# pkg-config; `cpack -G DEB`: the same as Debian packages. Components: runtime (a shared library),
# development, tools.
include(CMakePackageConfigHelpers)

set(brood_package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/brood")

install(
  TARGETS brood
  EXPORT brood-targets
  ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT development
  LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}"
          COMPONENT runtime
          NAMELINK_COMPONENT development
  FILE_SET HEADERS DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" COMPONENT development)
if(BROOD_WITH_CLUSTER)
  # Apart, as whoever does not ask for it need not have what it stands on.
  install(
    TARGETS brood_cluster
    EXPORT brood-cluster-targets
    ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT development
    LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}"
            COMPONENT runtime
            NAMELINK_COMPONENT development
    FILE_SET HEADERS DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" COMPONENT development)
  install(EXPORT brood-cluster-targets NAMESPACE brood:: DESTINATION "${brood_package_dir}"
          COMPONENT development)
endif()
install(EXPORT brood-targets NAMESPACE brood:: DESTINATION "${brood_package_dir}"
        COMPONENT development)

configure_package_config_file(
  cmake/brood-config.cmake.in brood-config.cmake INSTALL_DESTINATION "${brood_package_dir}")
write_basic_package_version_file(brood-config-version.cmake COMPATIBILITY ${brood_compatibility})
install(
  FILES "${CMAKE_CURRENT_BINARY_DIR}/brood-config.cmake"
        "${CMAKE_CURRENT_BINARY_DIR}/brood-config-version.cmake"
  DESTINATION "${brood_package_dir}"
  COMPONENT development)

# Paths in the pkg-config file start where it stands, so that the package can be moved.
set(brood_pc_dir "${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig")
foreach(dir PREFIX FULL_LIBDIR FULL_INCLUDEDIR)
  file(RELATIVE_PATH brood_pc_${dir} "${brood_pc_dir}" "${CMAKE_INSTALL_${dir}}")
endforeach()
# Who links a static library links what is behind it, too, and `pkg-config --libs` must say so.
if(BUILD_SHARED_LIBS)
  set(brood_pc_requires "fmt >= 9")
  set(brood_pc_requires_private "openssl >= 3, spdlog >= 1.10, libseccomp >= 2.5")
else()
  set(brood_pc_requires "fmt >= 9, openssl >= 3, spdlog >= 1.10, libseccomp >= 2.5")
  set(brood_pc_requires_private "")
endif()
configure_file(cmake/brood.pc.in brood.pc @ONLY)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/brood.pc"
        DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig" COMPONENT development)
install(FILES LICENSE DESTINATION "${CMAKE_INSTALL_DATAROOTDIR}/doc/brood" COMPONENT development)

# ---- Debian packages -----------------------------------------------------------------------------
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME brood)
set(CPACK_PACKAGE_VENDOR brood)
set(CPACK_PACKAGE_CONTACT "The Brood authors <brood@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "${PROJECT_DESCRIPTION}")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION libs)
set(CPACK_STRIP_FILES ON)

set(CPACK_DEBIAN_RUNTIME_PACKAGE_NAME libbrood${brood_abi_version})
set(CPACK_DEBIAN_RUNTIME_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_RUNTIME_PACKAGE_CONTROL_EXTRA "${PROJECT_SOURCE_DIR}/cmake/debian/triggers")
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_NAME libbrood-dev)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_DEPENDS
    "libfmt-dev (>= 9), libcereal-dev (>= 1.3), libboost1.81-dev, libssl-dev (>= 3), libspdlog-dev")
string(APPEND CPACK_DEBIAN_DEVELOPMENT_PACKAGE_DEPENDS ", libseccomp-dev (>= 2.5), pkg-config")
if(BROOD_WITH_CLUSTER)
  set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_SUGGESTS "libnats-dev (>= 3.4), nats-server")
endif()
set(CPACK_DEBIAN_TOOLS_PACKAGE_NAME brood-tools)
set(CPACK_DEBIAN_TOOLS_PACKAGE_SECTION utils)
set(CPACK_DEBIAN_TOOLS_PACKAGE_SHLIBDEPS ON)
if(BROOD_WITH_CLUSTER)
  set(CPACK_DEBIAN_TOOLS_PACKAGE_SUGGESTS "nats-server, openssh-client")
endif()
set(CPACK_COMPONENTS_ALL development)
if(BUILD_SHARED_LIBS)
  list(APPEND CPACK_COMPONENTS_ALL runtime)
  set(brood_runtime "libbrood${brood_abi_version} (= ${PROJECT_VERSION})")
  string(APPEND CPACK_DEBIAN_DEVELOPMENT_PACKAGE_DEPENDS ", ${brood_runtime}")
  set(CPACK_DEBIAN_TOOLS_PACKAGE_DEPENDS "${brood_runtime}")
  set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS "${PROJECT_BINARY_DIR}")
endif()
if(BROOD_BUILD_TOOLS)
  list(APPEND CPACK_COMPONENTS_ALL tools)
endif()
include(CPack)
