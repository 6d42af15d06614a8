# Each tests/DIR/test_NAME.c is a process of its own (cmocka), each tests/DIR/NAME.sh a script test;
# label: the folder when it names a layer, else unit. Exit 77 skips. tests/quality and tests/bench
# are run by hand.
pkg_check_modules(CMOCKA REQUIRED IMPORTED_TARGET cmocka)
set(layers oracle golden fault fuzz race e2e)
list(TRANSFORM FACET_ROOMS PREPEND facet_ OUTPUT_VARIABLE all_rooms)
list(PREPEND all_rooms facet_tools)

file(GLOB support CONFIGURE_DEPENDS tests/support/*.c)

# The numeric files of train/ in double, where central differences can judge a gradient.
file(GLOB double_sources CONFIGURE_DEPENDS train/*.c)
list(FILTER double_sources EXCLUDE REGEX "/distill[^/]*$")
add_library(facet_train_double STATIC ${double_sources})
facet_sees(facet_train_double train base model kernels calib predict products)
target_compile_definitions(facet_train_double PUBLIC FACET_REAL_DOUBLE)
target_link_libraries(facet_train_double PUBLIC facet_calib facet_products PkgConfig::OPENBLAS m)

# A test of a room links that room (and, through it, what it may include); the others link all.
function(facet_test_links target dir)
  if(target MATCHES "_gradient$")
    target_link_libraries(${target} PRIVATE facet_train_double)
  elseif(dir IN_LIST FACET_ROOMS)
    target_link_libraries(${target} PRIVATE facet_${dir})
  else()
    target_link_libraries(${target} PRIVATE ${all_rooms})
  endif()
  facet_sees(${target} ${FACET_ROOMS} tools tests)
endfunction()

if(support)
  add_library(facet_test_support STATIC ${support})
  facet_sees(facet_test_support ${FACET_ROOMS} tests)
  target_link_libraries(facet_test_support PUBLIC facet_base)
else()
  add_library(facet_test_support INTERFACE)
endif()

set(test_env
  "FACET_BIN=${CMAKE_BINARY_DIR}/facet" "FACET_SOURCE=${CMAKE_SOURCE_DIR}"
  "FACET_BUILD=${CMAKE_BINARY_DIR}")
if(FACET_SANITIZE MATCHES address)
  # The sanitizer guesses the size of a thread-local block of a library that dlopen loads from the
  # words before it, and the leak check then reads wild addresses. It counts as reachable whatever
  # the loader allocates, so nothing is missed without the guess.
  list(APPEND test_env "ASAN_OPTIONS=intercept_tls_get_addr=0")
endif()

function(facet_test_props name label)
  set_tests_properties(${name} PROPERTIES LABELS ${label} SKIP_RETURN_CODE 77
    TIMEOUT 900 ENVIRONMENT "${test_env}")
endfunction()

file(GLOB test_sources CONFIGURE_DEPENDS tests/*/test_*.c)
foreach(source ${test_sources})
  get_filename_component(name ${source} NAME_WE)
  get_filename_component(dir ${source} DIRECTORY)
  get_filename_component(dir ${dir} NAME)
  set(label unit)
  if(dir IN_LIST layers)
    set(label ${dir})
  endif()
  add_executable(${name} ${source})
  target_link_libraries(${name} PRIVATE facet_test_support PkgConfig::CMOCKA)
  facet_test_links(${name} ${dir})
  add_test(NAME ${dir}/${name} COMMAND ${name})
  facet_test_props(${dir}/${name} ${label})
endforeach()

file(GLOB test_scripts CONFIGURE_DEPENDS tests/*/*.sh)
foreach(script ${test_scripts})
  get_filename_component(name ${script} NAME_WE)
  get_filename_component(dir ${script} DIRECTORY)
  get_filename_component(dir ${dir} NAME)
  if(dir MATCHES "^(quality|bench|experiments|support)$")
    continue()
  endif()
  set(label unit)
  if(dir IN_LIST layers)
    set(label ${dir})
  endif()
  add_test(NAME ${dir}/${name} COMMAND bash ${script})
  facet_test_props(${dir}/${name} ${label})
endforeach()

# fuzz_NAME.c defines LLVMFuzzerTestOneInput; the driver replays tests/fuzz/corpus/NAME/*.
file(GLOB fuzz_sources CONFIGURE_DEPENDS tests/fuzz/fuzz_*.c)
foreach(source ${fuzz_sources})
  get_filename_component(name ${source} NAME_WE)
  string(REPLACE "fuzz_" "" corpus ${name})
  if(FACET_FUZZ)
    add_executable(${name} ${source})
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  else()
    add_executable(${name} ${source} ${CMAKE_SOURCE_DIR}/tests/fuzz/driver.c)
    add_test(NAME fuzz/${corpus} COMMAND ${name} ${CMAKE_SOURCE_DIR}/tests/fuzz/corpus/${corpus})
    facet_test_props(fuzz/${corpus} fuzz)
  endif()
  target_link_libraries(${name} PRIVATE ${all_rooms})
  facet_sees(${name} ${FACET_ROOMS} tools tests)
endforeach()
