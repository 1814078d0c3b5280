# SPDX-License-Identifier: Apache-2.0
# cmake --install, find_package(posthouse CONFIG) and pkg-config. Components: program, library (shared only), devel.
include(CMakePackageConfigHelpers)

set(config_dir "${CMAKE_INSTALL_LIBDIR}/cmake/posthouse")
set(exported posthouse)
if(TARGET posthouse_testing)
  list(APPEND exported posthouse_testing)
endif()

install(TARGETS ${exported} EXPORT posthouse_targets
  ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT devel
  LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT library NAMELINK_COMPONENT devel)
install(DIRECTORY "${PROJECT_SOURCE_DIR}/include/posthouse" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
  COMPONENT devel FILES_MATCHING PATTERN "*.hpp")
install(EXPORT posthouse_targets NAMESPACE posthouse:: DESTINATION "${config_dir}" COMPONENT devel)

configure_package_config_file("${CMAKE_CURRENT_LIST_DIR}/posthouse-config.cmake.in"
  "${PROJECT_BINARY_DIR}/posthouse-config.cmake" INSTALL_DESTINATION "${config_dir}")
# Before 1.0 a minor version may break its users.
write_basic_package_version_file("${PROJECT_BINARY_DIR}/posthouse-config-version.cmake"
  COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/posthouse-config.cmake" "${PROJECT_BINARY_DIR}/posthouse-config-version.cmake"
  DESTINATION "${config_dir}" COMPONENT devel)

# A static library's needs stand under Libs, not Libs.private: `pkg-config --libs` without --static must link.
set(pc_libs "-lpq -lboost_json -lfmt -lyaml-cpp -lssl -lcrypto -pthread")
set(pc_own "")
if(BUILD_SHARED_LIBS)
  set(pc_own "${pc_libs}")
  set(pc_private "${pc_libs}")
  set(pc_libs "")
endif()
foreach(kind LIB INCLUDE)
  if(IS_ABSOLUTE "${CMAKE_INSTALL_${kind}DIR}")
    set(pc_${kind}dir "${CMAKE_INSTALL_${kind}DIR}")
  else()
    set(pc_${kind}dir "\${prefix}/${CMAKE_INSTALL_${kind}DIR}")
  endif()
endforeach()
configure_file("${CMAKE_CURRENT_LIST_DIR}/posthouse.pc.in" "${PROJECT_BINARY_DIR}/posthouse.pc" @ONLY)
configure_file("${CMAKE_CURRENT_LIST_DIR}/posthouse-testing.pc.in" "${PROJECT_BINARY_DIR}/posthouse-testing.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/posthouse.pc" "${PROJECT_BINARY_DIR}/posthouse-testing.pc"
  DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig" COMPONENT devel)

if(TARGET posthouse_cli)
  install(TARGETS posthouse_cli RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}" COMPONENT program)
endif()
file(GLOB manuals CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/docs/man/*.1")
install(FILES ${manuals} DESTINATION "${CMAKE_INSTALL_MANDIR}/man1" COMPONENT program)
install(FILES "${PROJECT_SOURCE_DIR}/completion/posthouse.bash" RENAME posthouse
        DESTINATION "${CMAKE_INSTALL_DATADIR}/bash-completion/completions" COMPONENT program)

# The service of systemd; /etc/posthouse/broker.yaml is for whoever runs it to write.
if(TARGET posthouse_cli)
  configure_file("${PROJECT_SOURCE_DIR}/packaging/posthouse.service.in" "${PROJECT_BINARY_DIR}/posthouse.service" @ONLY)
  install(FILES "${PROJECT_BINARY_DIR}/posthouse.service" DESTINATION "lib/systemd/system" COMPONENT program)
  install(FILES "${PROJECT_SOURCE_DIR}/examples/broker.example.yaml"
          DESTINATION "${CMAKE_INSTALL_DATADIR}/doc/posthouse" COMPONENT program)
endif()
