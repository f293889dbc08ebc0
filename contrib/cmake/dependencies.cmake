# Every library crisp uses, each from its Debian 12 package. A missing one is named with its package.

function(crisp_require found library package)
  if(NOT ${found})
    message(FATAL_ERROR "${library} is missing: apt-get install ${package} "
                        "(contrib/install-dependencies installs everything)")
  endif()
endfunction()

find_package(Threads REQUIRED)
find_package(PkgConfig)
crisp_require(PKG_CONFIG_FOUND pkg-config pkg-config)

find_package(Protobuf)
crisp_require(Protobuf_FOUND Protobuf "libprotobuf-dev protobuf-compiler")
find_package(gRPC CONFIG QUIET)
crisp_require(gRPC_FOUND gRPC "libgrpc++-dev protobuf-compiler-grpc")
find_package(absl CONFIG QUIET)
crisp_require(absl_FOUND Abseil libabsl-dev)
find_package(CURL)
crisp_require(CURL_FOUND libcurl libcurl4-openssl-dev)
find_package(OpenSSL 3)
crisp_require(OPENSSL_FOUND OpenSSL libssl-dev)
find_package(nlohmann_json 3.11 CONFIG QUIET)
crisp_require(nlohmann_json_FOUND "nlohmann/json" nlohmann-json3-dev)
find_package(tomlplusplus CONFIG QUIET)
crisp_require(tomlplusplus_FOUND "toml++" libtomlplusplus-dev)
find_package(zstd CONFIG QUIET)
crisp_require(zstd_FOUND zstd libzstd-dev)
find_package(ZLIB)
crisp_require(ZLIB_FOUND zlib zlib1g-dev)
find_package(spdlog CONFIG QUIET)
crisp_require(spdlog_FOUND spdlog libspdlog-dev)
find_package(CLI11 CONFIG QUIET)
crisp_require(CLI11_FOUND CLI11 libcli11-dev)
find_package(GTest CONFIG QUIET)
crisp_require(GTest_FOUND GoogleTest "libgtest-dev libgmock-dev")
pkg_check_modules(ISAL IMPORTED_TARGET QUIET libisal)
crisp_require(ISAL_FOUND ISA-L libisal-dev)
# The archive, of which two functions are used: no further shared library in the daemon.
find_library(CRISP_LIBMD NAMES libmd.a)
crisp_require(CRISP_LIBMD libmd libmd-dev)
# The archive, so that the daemon pays for it only while it reads YAML.
find_library(CRISP_LIBYAML NAMES libyaml.a)
crisp_require(CRISP_LIBYAML libyaml libyaml-dev)
pkg_check_modules(SECCOMP IMPORTED_TARGET QUIET libseccomp)
crisp_require(SECCOMP_FOUND libseccomp libseccomp-dev)
find_program(MUSL_GCC musl-gcc)
crisp_require(MUSL_GCC "musl-gcc" musl-tools)

# A unix socket needs no TLS: the unsecure gRPC, linked statically, keeps the daemon's memory small.
# Debian's CMake targets are shared libraries, so the archives are named here.
pkg_check_modules(GRPC_UNSECURE QUIET grpc++_unsecure)
crisp_require(GRPC_UNSECURE_FOUND "gRPC (unsecure)" libgrpc++-dev)
file(GLOB CRISP_ABSL_ARCHIVES /usr/lib/${CMAKE_LIBRARY_ARCHITECTURE}/libabsl_*.a)
add_library(crisp_grpc INTERFACE)
add_library(crisp::grpc ALIAS crisp_grpc)
set(archives)
foreach(name grpc++_unsecure grpc_unsecure gpr upb address_sorting re2 cares)
  find_library(CRISP_ARCHIVE_${name} lib${name}.a)
  crisp_require(CRISP_ARCHIVE_${name} "lib${name}.a" "libgrpc++-dev libre2-dev libc-ares-dev")
  list(APPEND archives ${CRISP_ARCHIVE_${name}})
endforeach()

# Abseil and protobuf-lite: one static group for every program, so that no type exists twice.
find_library(CRISP_PROTOBUF_LITE libprotobuf-lite.a)
crisp_require(CRISP_PROTOBUF_LITE libprotobuf-lite.a libprotobuf-dev)
add_library(crisp_absl INTERFACE)
add_library(crisp::absl ALIAS crisp_absl)
list(FILTER CRISP_ABSL_ARCHIVES EXCLUDE REGEX "flags")
# A group is one item: CMake would take repeated archives out of it and leave an empty group.
list(JOIN CRISP_ABSL_ARCHIVES "," absl_group)
list(JOIN archives "," grpc_group)
target_link_libraries(crisp_absl INTERFACE
  -Wl,--start-group,${absl_group},--end-group Threads::Threads)
target_link_libraries(crisp_grpc INTERFACE
  -Wl,--start-group,${grpc_group},${CRISP_PROTOBUF_LITE},${absl_group},${ZLIB_LIBRARIES},--end-group
  Threads::Threads dl)
