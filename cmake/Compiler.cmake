# SPDX-License-Identifier: Apache-2.0
# Language level, warnings, hardening and sanitizers, on the interface target `posthouse_flags` that every target of
# ours uses privately. Nothing here reaches a project that includes us.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)

if(PROJECT_IS_TOP_LEVEL)
  set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
  set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")
  if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
    set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "Release, RelWithDebInfo or Debug" FORCE)
  endif()
  find_program(POSTHOUSE_CCACHE ccache)
  if(POSTHOUSE_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
    # Without this sloppiness ccache never finds a file again that uses a precompiled header.
    set(CMAKE_CXX_COMPILER_LAUNCHER
      "${CMAKE_COMMAND};-E;env;CCACHE_SLOPPINESS=pch_defines,time_macros;${POSTHOUSE_CCACHE}")
  endif()
endif()

include(CheckPIESupported)
check_pie_supported(LANGUAGES CXX)

add_library(posthouse_flags INTERFACE)
target_compile_options(posthouse_flags INTERFACE -Wall -Wextra -Wconversion -Wshadow)
if(POSTHOUSE_WERROR)
  target_compile_options(posthouse_flags INTERFACE -Werror)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # GCC wants this to let ccache see through a precompiled header.
  target_compile_options(posthouse_flags INTERFACE -fpch-preprocess)
  if(CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    # False alarms about inlined std::string and std::vector (GCC bugs 105329, 105651, 107852).
    target_compile_options(posthouse_flags INTERFACE -Wno-restrict -Wno-stringop-overflow -Wno-array-bounds)
  endif()
  if(POSTHOUSE_SANITIZE)
    # The checks that sanitizers insert confuse GCC's analysis of values.
    target_compile_options(posthouse_flags INTERFACE -Wno-maybe-uninitialized)
  endif()
endif()

if(POSTHOUSE_SANITIZE)
  if(NOT POSTHOUSE_SANITIZE MATCHES "^(address,undefined|address|undefined|thread)$")
    message(FATAL_ERROR "POSTHOUSE_SANITIZE is '${POSTHOUSE_SANITIZE}': it must be empty, 'address,undefined', "
                        "'address', 'undefined' or 'thread'.")
  endif()
  target_compile_options(posthouse_flags INTERFACE -fsanitize=${POSTHOUSE_SANITIZE} -fno-omit-frame-pointer)
  target_link_options(posthouse_flags INTERFACE -fsanitize=${POSTHOUSE_SANITIZE})
  if(POSTHOUSE_SANITIZE MATCHES "undefined")
    target_compile_options(posthouse_flags INTERFACE -fno-sanitize-recover=undefined)
  endif()
elseif(POSTHOUSE_HARDENING)
  # _FORTIFY_SOURCE works only where the compiler optimises.
  target_compile_options(posthouse_flags INTERFACE
    $<$<NOT:$<CONFIG:Debug>>:-U_FORTIFY_SOURCE> $<$<NOT:$<CONFIG:Debug>>:-D_FORTIFY_SOURCE=2> -fstack-protector-strong)
  target_link_options(posthouse_flags INTERFACE LINKER:-z,relro,-z,now)
endif()
if(POSTHOUSE_HARDENING OR POSTHOUSE_SANITIZE)
  target_compile_definitions(posthouse_flags INTERFACE _GLIBCXX_ASSERTIONS)
endif()
