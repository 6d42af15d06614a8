# facet_embed(TARGET): makes templates/* and kernels/abi.h part of TARGET, as the table that
# compiler/embedded.h declares, so that an installed facet needs no path to them.
function(facet_embed target)
  file(GLOB texts CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/templates/*.h ${CMAKE_SOURCE_DIR}/templates/*.in)
  list(APPEND texts ${CMAKE_SOURCE_DIR}/kernels/abi.h)
  set(out ${CMAKE_BINARY_DIR}/embedded.c)
  add_custom_command(
    OUTPUT ${out}
    COMMAND ${CMAKE_COMMAND} "-DTEXTS=${texts}" -DOUT=${out} -P ${CMAKE_SOURCE_DIR}/cmake/EmbedRun.cmake
    DEPENDS ${texts} ${CMAKE_SOURCE_DIR}/cmake/EmbedRun.cmake
    VERBATIM)
  target_sources(${target} PRIVATE ${out})
endfunction()
