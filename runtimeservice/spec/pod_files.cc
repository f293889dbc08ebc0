#include "runtimeservice/spec/pod_files.h"

#include <algorithm>
#include <string_view>

#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace runtimeservice {
namespace {

constexpr mode_t kFileMode = 0644;
constexpr size_t kMaxHostFileBytes = 1 << 20;

// One entry of resolv.conf: anything with a space or a control character would become another
// entry.
absl::Status CheckWord(std::string_view word, std::string_view field, int index) {
  const bool plain = !word.empty() && std::none_of(word.begin(), word.end(), [](unsigned char c) {
    return c <= 0x20 || c == 0x7f;
  });
  if (!plain) {
    return absl::InvalidArgumentError(
        base::StrCat("dns_config.", field, "[", index, "]: not a single word"));
  }
  return absl::OkStatus();
}

template <typename Words>
absl::StatusOr<std::string> JoinedLine(std::string_view keyword, const Words& words,
                                       std::string_view field) {
  std::string line;
  for (int i = 0; i < words.size(); ++i) {
    RETURN_IF_ERROR(CheckWord(words[i], field, i));
    line += base::StrCat(" ", words[i]);
  }
  return line.empty() ? line : base::StrCat(keyword, line, "\n");
}

bool HostNetwork(const cri::PodSandboxConfig& pod) {
  return pod.linux().security_context().namespace_options().network() == cri::NODE;
}

absl::StatusOr<std::string> HostFile(const std::string& path) {
  absl::StatusOr<std::string> content = base::ReadFile(path, kMaxHostFileBytes);
  return absl::IsNotFound(content.status()) ? std::string() : content;
}

std::string Hosts(const std::string& hostname, const std::vector<std::string>& ips) {
  std::string hosts =
      "127.0.0.1\tlocalhost\n"
      "::1\tlocalhost ip6-localhost ip6-loopback\n";
  for (const std::string& ip : ips) {
    hosts += base::StrCat(ip, "\t", hostname, "\n");
  }
  return hosts;
}

}  // namespace

absl::StatusOr<std::string> ResolvConf(const cri::DNSConfig& dns) {
  std::string text;
  for (int i = 0; i < dns.servers_size(); ++i) {
    RETURN_IF_ERROR(CheckWord(dns.servers(i), "servers", i));
    text += base::StrCat("nameserver ", dns.servers(i), "\n");
  }
  ASSIGN_OR_RETURN(const std::string searches, JoinedLine("search", dns.searches(), "searches"));
  ASSIGN_OR_RETURN(const std::string options, JoinedLine("options", dns.options(), "options"));
  return text + searches + options;
}

absl::StatusOr<std::string> PodHostname(const cri::PodSandboxConfig& pod,
                                        const std::string& node_name, const base::PodId& pod_id) {
  if (HostNetwork(pod)) {
    return node_name;
  }
  if (pod.hostname().empty()) {
    return pod_id.str().substr(0, 12);
  }
  constexpr size_t kMaxBytes = 64;  // HOST_NAME_MAX.
  const bool plain = std::all_of(pod.hostname().begin(), pod.hostname().end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '-' || c == '_';
  });
  if (!plain || pod.hostname().size() > kMaxBytes) {
    return absl::InvalidArgumentError(
        "hostname: not a name of at most 64 letters, digits, \".\", \"-\" and \"_\"");
  }
  return pod.hostname();
}

PodFiles PodFilesIn(const std::string& directory) {
  PodFiles files;
  files.resolv_conf = directory + "/resolv.conf";
  files.hostname = directory + "/hostname";
  files.hosts = directory + "/hosts";
  files.shm = directory + "/shm";
  return files;
}

absl::StatusOr<PodFiles> WritePodFiles(const std::string& directory,
                                       const cri::PodSandboxConfig& pod,
                                       const std::string& hostname,
                                       const std::vector<std::string>& ips) {
  const PodFiles files = PodFilesIn(directory);
  std::string resolv_conf;
  if (pod.has_dns_config()) {
    ASSIGN_OR_RETURN(resolv_conf, ResolvConf(pod.dns_config()));
  } else {
    ASSIGN_OR_RETURN(resolv_conf, HostFile("/etc/resolv.conf"));
  }
  std::string hosts = Hosts(hostname, ips);
  if (HostNetwork(pod)) {
    ASSIGN_OR_RETURN(hosts, HostFile("/etc/hosts"));
  }
  const auto write = [](const std::string& path, const std::string& text) {
    return base::ReplaceFile(path, text, kFileMode, base::Durability::kVolatile);
  };
  RETURN_IF_ERROR(write(files.resolv_conf, resolv_conf));
  RETURN_IF_ERROR(write(files.hostname, hostname + "\n"));
  RETURN_IF_ERROR(write(files.hosts, hosts));
  return files;
}

}  // namespace runtimeservice
