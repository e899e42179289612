# The native module deepspec._core: the only target that knows of Python.

find_package(Python 3.10 COMPONENTS Interpreter Development.Module)
if(NOT Python_Development.Module_FOUND)
  message(FATAL_ERROR
    "deepspec: the C headers of Python ${Python_VERSION} (${Python_EXECUTABLE}) are missing: install python3-dev "
    "(Debian/Ubuntu: apt install python3-dev; Fedora: dnf install python3-devel).")
endif()
set(PYBIND11_FINDPYTHON ON)
find_package(pybind11 3.0 CONFIG REQUIRED)

pybind11_add_module(_core MODULE cpp/bindings.cpp)
target_compile_definitions(_core PRIVATE DEEPSPEC_VERSION="${DEEPSPEC_VERSION}")
target_link_libraries(_core PRIVATE deepspec_core)
install(TARGETS _core DESTINATION deepspec COMPONENT python)
