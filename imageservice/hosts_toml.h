// hosts.toml, containerd's way to say which servers stand for a registry ("Registry Configuration"
// of its documentation).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "imageservice/registry_certificates.h"

namespace imageservice {

// One server: a [host."URL"] table, or the top level for `server`.
struct RegistryHost {
  std::string url;        // The API's root, "https://m.io:5000/v2"; empty: the registry's own.
  std::string authority;  // "m.io:5000"; empty with the URL.
  bool can_resolve = true;
  bool can_pull = true;
  bool skip_verify = false;
  bool pass_credentials = false;     // crisp's own key, as in registries.conf.
  std::vector<std::string> headers;  // "Name: value"; may be secret.
  int connect_timeout_seconds = 30;
  // Files as the document names them; the second of a pair is empty when one file has both.
  std::vector<std::string> authority_files;
  std::vector<std::pair<std::string, std::string>> client_files;
  RegistryCertificates certificates;  // What LoadRegistryHosts read of them.

  bool plain_http() const { return url.starts_with("http://"); }
};

// What stands for one registry.
struct RegistryHosts {
  std::vector<RegistryHost> mirrors;  // To be asked first, in this order.
  RegistryHost server;                // Asked last.
  std::string origin;                 // The directory.
  std::vector<std::string> warnings;  // For the log: keys that mean nothing.
};

// `name` is for messages. Reads no other file. INVALID_ARGUMENT, beginning with "NAME:LINE: " and
// without any header's value, for what makes no sense.
absl::StatusOr<RegistryHosts> ParseHostsToml(std::string_view text, const std::string& name);

// What the first of `directories` says that has a folder for the registry ("reg.io", "reg.io_5000_"
// or "reg.io:5000") or, if it has not, one for all (`_default`): that folder's hosts.toml with the
// certificates it names; without a hosts.toml the certificates in it, as in certs.d. nullopt when
// there is no folder.
absl::StatusOr<std::optional<RegistryHosts>> LoadRegistryHosts(
    const std::vector<std::string>& directories, const std::string& registry);

}  // namespace imageservice
