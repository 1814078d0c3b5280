# SPDX-License-Identifier: Apache-2.0
# Targets made from the folders of src/: an object library a room, the library, the program.
#
# A room may use what CMake links to its object library here, so a file that includes libpq-fe.h outside src/pg does not
# compile unless the header happens to lie in the compiler's own path; scripts/layers checks the rest.

set(POSTHOUSE_DEPS_pg PkgConfig::libpq)
set(POSTHOUSE_DEPS_dev PkgConfig::libpq)
set(POSTHOUSE_DEPS_execute OpenSSL::SSL)
set(POSTHOUSE_DEPS_node fmt::fmt ${POSTHOUSE_YAML} CLI11::CLI11)
set(POSTHOUSE_DEPS_cli fmt::fmt ${POSTHOUSE_YAML} CLI11::CLI11)
set(POSTHOUSE_DEPS_bench PkgConfig::libpq CLI11::CLI11 fmt::fmt)
# Headers that are slow to read and that most files of a room need.
set(POSTHOUSE_PCH_cli <CLI/CLI.hpp>)

function(posthouse_add_room room)
  file(GLOB sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/src/${room}/*.cpp")
  if(room STREQUAL "store")
    posthouse_embed_sql(embedded)
    list(APPEND sources "${embedded}")
  endif()
  if(NOT sources)
    return()
  endif()
  add_library(ph_${room} OBJECT ${sources})
  target_include_directories(ph_${room} PRIVATE "${PROJECT_SOURCE_DIR}/src" "${PROJECT_SOURCE_DIR}/include")
  target_link_libraries(ph_${room} PRIVATE posthouse_flags Threads::Threads Boost::json fmt::fmt
                                           ${POSTHOUSE_DEPS_${room}})
  target_compile_definitions(ph_${room} PRIVATE POSTHOUSE_VERSION="${PROJECT_VERSION}")
  # Reading a command line is never slow, but optimising CLI11's templates is.
  if(room STREQUAL "cli" AND POSTHOUSE_SANITIZE)
    target_compile_options(ph_${room} PRIVATE -O0)
  elseif(room STREQUAL "cli")
    target_compile_options(ph_${room} PRIVATE $<$<CONFIG:Release>:-O1>)
  endif()
  if(POSTHOUSE_PCH AND POSTHOUSE_PCH_${room})
    target_precompile_headers(ph_${room} PRIVATE ${POSTHOUSE_PCH_${room}})
  endif()
endfunction()

# Objects of those rooms that exist, as generator expressions.
function(posthouse_objects result)
  set(objects)
  foreach(room IN LISTS ARGN)
    if(TARGET ph_${room})
      list(APPEND objects $<TARGET_OBJECTS:ph_${room}>)
    endif()
  endforeach()
  set(${result} ${objects} PARENT_SCOPE)
endfunction()

# What a static libposthouse makes its users link.
set(POSTHOUSE_LINK PkgConfig::libpq Boost::json fmt::fmt ${POSTHOUSE_YAML} OpenSSL::Crypto OpenSSL::SSL
                   Threads::Threads)

function(posthouse_library_properties target)
  target_include_directories(${target} PUBLIC "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>"
                                              "$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>")
  target_compile_features(${target} PUBLIC cxx_std_20)
  target_link_libraries(${target} PRIVATE ${POSTHOUSE_LINK} $<BUILD_INTERFACE:posthouse_flags>)
endfunction()

# posthouse: the library as users get it. posthouse_internal: always static, with every symbol, for the program and the
# tests, which reach into the rooms.
function(posthouse_add_library)
  posthouse_objects(objects ${POSTHOUSE_ROOMS})
  add_library(posthouse ${objects})
  add_library(posthouse::posthouse ALIAS posthouse)
  posthouse_library_properties(posthouse)
  set_target_properties(posthouse PROPERTIES
    LINKER_LANGUAGE CXX
    VERSION ${PROJECT_VERSION}
    SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR}
    EXPORT_NAME posthouse)
  if(BUILD_SHARED_LIBS)
    # Public headers carry no export marks; this list is the border instead.
    set(exports "${PROJECT_SOURCE_DIR}/cmake/exports.map")
    target_link_options(posthouse PRIVATE "LINKER:--version-script=${exports}" LINKER:--no-undefined)
    set_target_properties(posthouse PROPERTIES LINK_DEPENDS "${exports}")
    add_library(posthouse_internal STATIC ${objects})
    posthouse_library_properties(posthouse_internal)
    set_target_properties(posthouse_internal PROPERTIES LINKER_LANGUAGE CXX)
  else()
    add_library(posthouse_internal ALIAS posthouse)
  endif()
endfunction()

# posthouse_tools: the rooms of the program as a library, so that tests can call them.
function(posthouse_add_tools)
  foreach(room IN LISTS ARGN)
    posthouse_add_room(${room})
  endforeach()
  posthouse_objects(objects ${ARGN})
  if(NOT objects)
    return()
  endif()
  add_library(posthouse_tools STATIC ${objects})
  set_target_properties(posthouse_tools PROPERTIES LINKER_LANGUAGE CXX)
  target_link_libraries(posthouse_tools PUBLIC posthouse_internal CLI11::CLI11 fmt::fmt)
endfunction()

# The program. Its target cannot be called posthouse, which is the library.
function(posthouse_add_program)
  file(GLOB header CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/src/cli/main.hpp")
  if(NOT header OR NOT TARGET posthouse_tools)
    return()
  endif()
  add_executable(posthouse_cli "${PROJECT_SOURCE_DIR}/src/app/main.cpp")
  target_include_directories(posthouse_cli PRIVATE "${PROJECT_SOURCE_DIR}/src")
  target_link_libraries(posthouse_cli PRIVATE posthouse_flags posthouse_tools posthouse_internal)
  set_target_properties(posthouse_cli PROPERTIES OUTPUT_NAME posthouse)
endfunction()

# posthouse::testing: what posthouse/testing.hpp declares, for users' tests.
function(posthouse_add_testing)
  file(GLOB sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/src/testing/*.cpp")
  if(NOT sources)
    return()
  endif()
  # It reaches into the rooms, which a shared library hides: then it brings its own copy of them.
  set(objects)
  if(BUILD_SHARED_LIBS)
    posthouse_objects(objects ${POSTHOUSE_ROOMS})
  endif()
  add_library(posthouse_testing STATIC ${sources} ${objects})
  add_library(posthouse::testing ALIAS posthouse_testing)
  target_include_directories(posthouse_testing PRIVATE "${PROJECT_SOURCE_DIR}/src")
  target_link_libraries(posthouse_testing PUBLIC posthouse PRIVATE $<BUILD_INTERFACE:posthouse_flags> ${POSTHOUSE_LINK})
  set_target_properties(posthouse_testing PROPERTIES EXPORT_NAME testing)
endfunction()
