# Fills cpp/vendor/ with the header-only libraries the core is compiled with, Eigen and Spectra.
#
# The directory is ignored by git and shipped in the sdist. A library that is already there is left alone;
# otherwise its headers are taken from the first of
#   1. an installed CMake package: the system's, or a wheel's (cmeel-eigen) in the build environment,
#   2. the upstream release, checked against its SHA-256,
#   3. Debian's package, downloaded with apt-get and unpacked, which needs no root.

set(DEEPSPEC_VENDOR_DIR "${CMAKE_CURRENT_SOURCE_DIR}/cpp/vendor")

# vendor_from_package(<found> <package> <version> <target>): the include directory of an installed package.
function(vendor_from_package found package version target)
  set(${found} "" PARENT_SCOPE)
  list(TRANSFORM CMAKE_PREFIX_PATH APPEND "/cmeel.prefix" OUTPUT_VARIABLE cmeel_prefixes)
  find_package(${package} ${version} CONFIG QUIET HINTS ${cmeel_prefixes})
  if(${package}_FOUND)
    get_target_property(directories ${target} INTERFACE_INCLUDE_DIRECTORIES)
    list(GET directories 0 directory)
    message(STATUS "deepspec: ${package} ${${package}_VERSION} found in ${directory}")
    set(${found} "${directory}" PARENT_SCOPE)
  endif()
endfunction()

# vendor_from_release(<found> <url> <sha256>): the unpacked top directory of a release archive.
function(vendor_from_release found url sha256 work_dir)
  set(${found} "" PARENT_SCOPE)
  message(STATUS "deepspec: downloading ${url}")
  file(DOWNLOAD "${url}" "${work_dir}/release.tar.gz" STATUS status TIMEOUT 60 INACTIVITY_TIMEOUT 10)
  list(GET status 0 code)
  if(NOT code EQUAL 0)
    list(GET status 1 reason)
    message(STATUS "deepspec: download failed: ${reason}")
    return()
  endif()
  file(SHA256 "${work_dir}/release.tar.gz" actual)
  if(NOT actual STREQUAL sha256)
    file(REMOVE_RECURSE "${work_dir}")
    message(FATAL_ERROR "deepspec: ${url} has SHA-256 ${actual}, expected ${sha256}; it is not used.")
  endif()
  file(ARCHIVE_EXTRACT INPUT "${work_dir}/release.tar.gz" DESTINATION "${work_dir}/release")
  file(GLOB top LIST_DIRECTORIES true "${work_dir}/release/*")
  set(${found} "${top}" PARENT_SCOPE)
endfunction()

# vendor_from_debian(<found> <package>): the unpacked root of a Debian package.
function(vendor_from_debian found package work_dir)
  set(${found} "" PARENT_SCOPE)
  find_program(apt_get apt-get NO_CACHE)
  find_program(dpkg_deb dpkg-deb NO_CACHE)
  if(NOT apt_get OR NOT dpkg_deb)
    return()
  endif()
  message(STATUS "deepspec: apt-get download ${package}")
  execute_process(COMMAND "${apt_get}" download ${package} WORKING_DIRECTORY "${work_dir}"
    RESULT_VARIABLE code OUTPUT_QUIET ERROR_VARIABLE reason)
  file(GLOB archive "${work_dir}/${package}_*.deb")
  if(NOT code EQUAL 0 OR NOT archive)
    message(STATUS "deepspec: apt-get failed: ${reason}")
    return()
  endif()
  execute_process(COMMAND "${dpkg_deb}" -x "${archive}" "${work_dir}/debian" COMMAND_ERROR_IS_FATAL ANY)
  set(${found} "${work_dir}/debian" PARENT_SCOPE)
endfunction()

# vendor(<name> PROBE <header> PACKAGE <package> <version> <target> RELEASE <url> <sha256> DEBIAN <package> [MODULES <name>...])
# <name> is the directory to fill, cpp/vendor/<name>; PROBE a header in it that versions before the wanted one
# lack. With MODULES only those of the library's modules (a header <name>/<module> and its directory
# <name>/src/<module>) are taken.
function(vendor name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "PROBE;DEBIAN" "PACKAGE;RELEASE;MODULES")
  set(destination "${DEEPSPEC_VENDOR_DIR}/${name}")
  if(EXISTS "${destination}/${arg_PROBE}")
    return()
  endif()

  string(RANDOM LENGTH 8 unique)
  set(work_dir "${DEEPSPEC_VENDOR_DIR}/.${name}-${unique}")
  file(MAKE_DIRECTORY "${work_dir}")
  vendor_from_package(root ${arg_PACKAGE})
  if(NOT root)
    vendor_from_release(root ${arg_RELEASE} "${work_dir}")
  endif()
  if(NOT root)
    vendor_from_debian(root ${arg_DEBIAN} "${work_dir}")
  endif()

  set(headers "")
  foreach(directory IN ITEMS "${root}" "${root}/include" "${root}/usr/include" "${root}/usr/include/eigen3")
    if(EXISTS "${directory}/${name}/${arg_PROBE}")
      set(headers "${directory}/${name}")
      break()
    endif()
  endforeach()
  if(NOT headers)
    file(REMOVE_RECURSE "${work_dir}")
    list(GET arg_PACKAGE 1 version)
    list(GET arg_RELEASE 0 url)
    message(FATAL_ERROR
      "deepspec needs the headers of ${name} ${version} or newer to build and found them nowhere: not in ${destination}, "
      "not installed, not at ${url}, not through 'apt-get download ${arg_DEBIAN}'. Do one of these: "
      "install them (Debian/Ubuntu: apt install ${arg_DEBIAN}); let this machine reach the address above; or unpack "
      "that archive elsewhere and copy its ${name}/ directory to ${destination}.")
  endif()

  set(staged "${work_dir}/staged/${name}")
  if(arg_MODULES)
    foreach(module IN LISTS arg_MODULES)
      file(COPY "${headers}/${module}" DESTINATION "${staged}")
      if(IS_DIRECTORY "${headers}/src/${module}")
        file(COPY "${headers}/src/${module}" DESTINATION "${staged}/src")
      endif()
    endforeach()
    file(COPY "${headers}/src/misc" "${headers}/src/plugins" DESTINATION "${staged}/src"
      REGEX "/(blas|lapack)" EXCLUDE)
  else()
    file(COPY "${headers}/" DESTINATION "${staged}")
  endif()
  file(GLOB licences "${root}/LICENSE*" "${root}/COPYING*" "${root}/usr/share/doc/${arg_DEBIAN}/copyright")
  if(licences)
    file(COPY ${licences} DESTINATION "${staged}")
  endif()
  # Renamed into place whole: a build that is stopped, or one beside this, never leaves half a library.
  file(RENAME "${staged}" "${destination}" RESULT renamed)
  file(REMOVE_RECURSE "${work_dir}")
  if(NOT EXISTS "${destination}/${arg_PROBE}")
    message(FATAL_ERROR "deepspec: cannot write ${destination}: ${renamed}")
  endif()
endfunction()

vendor(Eigen
  PROBE src/Core/Reshaped.h
  PACKAGE Eigen3 3.4 Eigen3::Eigen
  RELEASE https://gitlab.com/libeigen/eigen/-/archive/3.4.0/eigen-3.4.0.tar.gz
    8586084f71f9bde545ee7fa6d00288b264a2b7ac3607b974e54d13e7162c1c72
  DEBIAN libeigen3-dev
  MODULES Cholesky Core Dense Eigenvalues Geometry Householder Jacobi LU QR SVD)
vendor(Spectra
  PROBE Util/Version.h
  PACKAGE Spectra 1.0 Spectra::Spectra
  RELEASE https://github.com/yixuan/spectra/archive/refs/tags/v1.0.1.tar.gz
    919e3fbc8c539a321fd5a0766966922b7637cc52eb50a969241a997c733789f3
  DEBIAN libspectra-dev)
