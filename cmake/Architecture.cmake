# DEEPSPEC_ARCHITECTURE: "x86_64", "arm64", or "" where only the portable kernels are built.
# The target counts, not the machine that compiles; a macOS build for several at once has no single one.

if(CMAKE_OSX_ARCHITECTURES)
  set(target_processor "${CMAKE_OSX_ARCHITECTURES}")
elseif(MSVC)
  set(target_processor "${CMAKE_CXX_COMPILER_ARCHITECTURE_ID}")
else()
  set(target_processor "${CMAKE_SYSTEM_PROCESSOR}")
endif()

set(DEEPSPEC_ARCHITECTURE "")
if(CMAKE_SIZEOF_VOID_P EQUAL 8)
  if(target_processor MATCHES "^(x86_64|AMD64|amd64|x64)$")
    set(DEEPSPEC_ARCHITECTURE "x86_64")
  elseif(target_processor MATCHES "^(arm64|ARM64|aarch64)$")
    set(DEEPSPEC_ARCHITECTURE "arm64")
  endif()
endif()

# deepspec_add_kernel(<name> [GNU <flag>...] [MSVC <flag>...])
# Adds kernels/<name>.cpp with its instruction-set flags and tells dispatch.cpp that it is there.
function(deepspec_add_kernel name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "GNU;MSVC")
  set(flags ${arg_GNU})
  if(MSVC)
    set(flags ${arg_MSVC})
  endif()
  target_sources(deepspec_core PRIVATE cpp/deepspec/kernels/${name}.cpp)
  set_property(SOURCE cpp/deepspec/kernels/${name}.cpp APPEND PROPERTY COMPILE_OPTIONS ${flags})
  string(TOUPPER ${name} upper_name)
  set_property(SOURCE cpp/deepspec/kernels/dispatch.cpp APPEND PROPERTY COMPILE_DEFINITIONS DEEPSPEC_HAVE_${upper_name})
endfunction()
