# SPDX-License-Identifier: Apache-2.0
# Turns sql/migrations/*.sql and sql/functions/*.sql into one C++ file, in the order of their names.
#
# Included by the project it defines posthouse_embed_sql(<variable>), which adds the rule that makes the file and stores
# the file's path. Run by `cmake -D SOURCE=… -D OUTPUT=… -P` it is that rule.

if(NOT CMAKE_SCRIPT_MODE_FILE)
  set(POSTHOUSE_EMBED_SCRIPT "${CMAKE_CURRENT_LIST_FILE}")

  function(posthouse_embed_sql result)
    file(GLOB sql CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/sql/migrations/*.sql"
                                    "${PROJECT_SOURCE_DIR}/sql/functions/*.sql")
    set(output "${PROJECT_BINARY_DIR}/generated/embedded_sql.cpp")
    # The list of names is a dependency too: a file that was removed leaves nothing newer behind.
    file(CONFIGURE OUTPUT "${PROJECT_BINARY_DIR}/generated/embedded_sql.list" CONTENT "${sql}\n" @ONLY)
    add_custom_command(
      OUTPUT "${output}"
      COMMAND ${CMAKE_COMMAND} -D "SOURCE=${PROJECT_SOURCE_DIR}/sql" -D "OUTPUT=${output}"
              -P "${POSTHOUSE_EMBED_SCRIPT}"
      DEPENDS ${sql} "${PROJECT_BINARY_DIR}/generated/embedded_sql.list" "${POSTHOUSE_EMBED_SCRIPT}"
      COMMENT "Embedding SQL"
      VERBATIM)
    set(${result} "${output}" PARENT_SCOPE)
  endfunction()
  return()
endif()

set(delimiter "posthouse_sql")
set(text "// Made from sql/ by cmake/EmbedSql.cmake.\n#include \"store/embedded_sql.hpp\"\n\n#include <array>\n\n")
string(APPEND text "namespace posthouse::store {\nnamespace {\n\n")
foreach(folder migrations functions)
  file(GLOB files "${SOURCE}/${folder}/*.sql")
  list(SORT files)
  list(LENGTH files count)
  string(APPEND text "constexpr std::array<SqlFile, ${count}> ${folder}_files{{\n")
  foreach(file IN LISTS files)
    get_filename_component(name "${file}" NAME)
    file(READ "${file}" content)
    if(content MATCHES "\\)${delimiter}\"")
      message(FATAL_ERROR "${file} contains )${delimiter}\", which ends the C++ literal that it becomes.")
    endif()
    string(APPEND text "    {\"${name}\", R\"${delimiter}(${content})${delimiter}\"},\n")
  endforeach()
  string(APPEND text "}};\n\n")
endforeach()
string(APPEND text "}  // namespace\n\nstd::span<SqlFile const> migrations() { return migrations_files; }\n"
                   "std::span<SqlFile const> functions() { return functions_files; }\n\n"
                   "}  // namespace posthouse::store\n")
file(WRITE "${OUTPUT}" "${text}")
