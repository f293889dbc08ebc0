// The files a pod's containers share: resolv.conf, hostname, hosts.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/id.h"
#include "proto/cri.h"

namespace runtimeservice {

// Host paths of what is bound into each container of a pod; an empty one is not.
struct PodFiles {
  std::string resolv_conf;
  std::string hostname;
  std::string hosts;  // Only where the request mounts nothing on /etc/hosts.
  std::string shm;    // A tmpfs, made and mounted by the caller; unused with the host's IPC.
};

// The text of resolv.conf: servers, searches, options. INVALID_ARGUMENT, naming the field, for
// entries with white space or control characters. Pure.
absl::StatusOr<std::string> ResolvConf(const cri::DNSConfig& dns);

// The name containers of the pod see: with the host's network `node_name`, else the request's, else
// the first 12 digits of `pod_id`. INVALID_ARGUMENT, naming the field, when it is longer than 64
// bytes or holds other than letters, digits, ".", "-" and "_". Pure.
absl::StatusOr<std::string> PodHostname(const cri::PodSandboxConfig& pod,
                                        const std::string& node_name, const base::PodId& pod_id);

// The pod's files in `directory`, as WritePodFiles makes them and where they are after a restart;
// `shm` is `<directory>/shm`.
PodFiles PodFilesIn(const std::string& directory);

// Writes resolv.conf, hostname and hosts into the existing `directory`, replacing what is there.
// `hostname` is from PodHostname; `ips` are the pod's addresses, none with the host's network. A
// resolv.conf without dns_config and the hosts of a pod with the host's network are copies of the
// host's files. Errors as ResolvConf's, and those of the files.
absl::StatusOr<PodFiles> WritePodFiles(const std::string& directory,
                                       const cri::PodSandboxConfig& pod,
                                       const std::string& hostname,
                                       const std::vector<std::string>& ips);

}  // namespace runtimeservice
