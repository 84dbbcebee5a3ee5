# Where BLAS and LAPACK come from: the target koopcore_blas.
#   system            what find_package(BLAS) and find_package(LAPACK) find (default)
#   scipy-openblas32  the PyPI package of that name, shipped beside the module (default for wheels)
if(building_wheel)
  set(KOOPCORE_BLAS scipy-openblas32 CACHE STRING "system or scipy-openblas32")
else()
  set(KOOPCORE_BLAS system CACHE STRING "system or scipy-openblas32")
endif()

add_library(koopcore_blas INTERFACE)
set_target_properties(koopcore_blas PROPERTIES EXPORT_NAME blas)

if(KOOPCORE_BLAS STREQUAL "scipy-openblas32")
  find_package(Python COMPONENTS Interpreter REQUIRED)
  execute_process(
    COMMAND "${Python_EXECUTABLE}" -c
      "import importlib.metadata as m, scipy_openblas32 as s
print(s.get_lib_dir(), s.get_library(fullname=True), sep='/')
print(next(f.locate() for f in m.files('scipy-openblas32') if f.name.startswith('LICENSE')))"
    OUTPUT_VARIABLE found RESULT_VARIABLE failed ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(failed)
    message(FATAL_ERROR "KOOPCORE_BLAS=scipy-openblas32, but ${Python_EXECUTABLE} has no such package: "
      "pip install scipy-openblas32, or use -DKOOPCORE_BLAS=system")
  endif()
  string(REPLACE "\n" ";" found "${found}")
  list(GET found 0 KOOPCORE_BLAS_LIBRARY)
  list(GET found 1 KOOPCORE_BLAS_LICENSE)
  get_filename_component(blas_file "${KOOPCORE_BLAS_LIBRARY}" NAME)
  target_link_libraries(koopcore_blas INTERFACE
    $<BUILD_INTERFACE:${KOOPCORE_BLAS_LIBRARY}>
    $<INSTALL_INTERFACE:$<INSTALL_PREFIX>/${CMAKE_INSTALL_LIBDIR}/${blas_file}>)
  set(blas_definitions KOOPCORE_SCIPY_OPENBLAS KOOPCORE_HAS_OPENBLAS)
elseif(KOOPCORE_BLAS STREQUAL "system")
  set(BLA_SIZEOF_INTEGER 4)
  find_package(BLAS)
  find_package(LAPACK)
  if(NOT BLAS_FOUND OR NOT LAPACK_FOUND)
    message(FATAL_ERROR "No BLAS and LAPACK on this system: install them (Debian: libopenblas-dev), "
      "or use -DKOOPCORE_BLAS=scipy-openblas32 with that PyPI package")
  endif()
  target_link_libraries(koopcore_blas INTERFACE LAPACK::LAPACK BLAS::BLAS)
  # Thread control exists in OpenBLAS only.
  include(CheckCXXSourceCompiles)
  set(CMAKE_REQUIRED_LIBRARIES BLAS::BLAS)
  check_cxx_source_compiles("extern \"C\" int openblas_get_num_threads();
    int main() { return openblas_get_num_threads() < 0; }" KOOPCORE_SYSTEM_IS_OPENBLAS)
  unset(CMAKE_REQUIRED_LIBRARIES)
  if(KOOPCORE_SYSTEM_IS_OPENBLAS)
    set(blas_definitions KOOPCORE_HAS_OPENBLAS)
  endif()
else()
  message(FATAL_ERROR "KOOPCORE_BLAS is '${KOOPCORE_BLAS}'; it must be system or scipy-openblas32")
endif()
set_source_files_properties(csrc/src/blas.cpp PROPERTIES COMPILE_DEFINITIONS "${blas_definitions}")
