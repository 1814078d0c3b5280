# SPDX-License-Identifier: Apache-2.0
# What posthouse stands on. CMake's own FindPostgreSQL insists on the server's headers, so libpq comes by pkg-config.

find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(libpq REQUIRED IMPORTED_TARGET libpq)
find_package(Boost 1.81 REQUIRED COMPONENTS json)
find_package(CLI11 REQUIRED)
find_package(yaml-cpp REQUIRED)
find_package(fmt REQUIRED)
find_package(OpenSSL REQUIRED)
find_package(date REQUIRED)  # headers alone; its target would switch on code that GCC 12 warns about

if(TARGET yaml-cpp::yaml-cpp)
  set(POSTHOUSE_YAML yaml-cpp::yaml-cpp)
else()
  set(POSTHOUSE_YAML yaml-cpp)  # before 0.8
endif()
