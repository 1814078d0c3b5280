# SPDX-License-Identifier: Apache-2.0
# `cpack --preset …` or `cpack -G DEB` in the build folder: posthouse, libposthouse-dev and, when shared, libposthouse0.1.
set(CPACK_PACKAGE_NAME posthouse)
set(CPACK_PACKAGE_VENDOR "The posthouse authors")
set(CPACK_PACKAGE_CONTACT "The posthouse authors <maintainers@posthouse.invalid>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "Background jobs in PostgreSQL")
set(CPACK_PACKAGING_INSTALL_PREFIX "/usr")
set(CPACK_GENERATOR DEB)
set(CPACK_STRIP_FILES ON)
set(CPACK_COMPONENTS_GROUPING IGNORE)
set(CPACK_COMPONENTS_ALL program devel)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SECTION database)

set(CPACK_DEBIAN_PROGRAM_PACKAGE_NAME posthouse)
set(CPACK_COMPONENT_PROGRAM_DESCRIPTION
  "Command line, worker and schema installer of posthouse, a job system whose jobs live in PostgreSQL.")
set(CPACK_DEBIAN_PROGRAM_PACKAGE_SUGGESTS "postgresql")

set(library_package "libposthouse${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR}")
set(CPACK_DEBIAN_LIBRARY_PACKAGE_NAME "${library_package}")
set(CPACK_DEBIAN_LIBRARY_PACKAGE_SECTION libs)
set(CPACK_COMPONENT_LIBRARY_DESCRIPTION "Shared library of posthouse, a job system whose jobs live in PostgreSQL.")

set(CPACK_DEBIAN_DEVEL_PACKAGE_NAME libposthouse-dev)
set(CPACK_DEBIAN_DEVEL_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEVEL_PACKAGE_SHLIBDEPS OFF)
set(CPACK_COMPONENT_DEVEL_DESCRIPTION
  "Headers, library and CMake and pkg-config files for C++ programs that enqueue and run posthouse jobs.")
if(BUILD_SHARED_LIBS)
  list(APPEND CPACK_COMPONENTS_ALL library)
  set(CPACK_DEBIAN_ENABLE_COMPONENT_DEPENDS OFF)
  set(CPACK_DEBIAN_DEVEL_PACKAGE_DEPENDS "${library_package} (= ${PROJECT_VERSION})")
else()
  set(CPACK_DEBIAN_DEVEL_PACKAGE_DEPENDS
    "libpq-dev, libboost-json1.81-dev, libfmt-dev, libyaml-cpp-dev, libssl-dev")
endif()

include(CPack)
