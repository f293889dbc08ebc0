#include "daemon/config_checks.h"

#include <arpa/inet.h>

#include <algorithm>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "imageservice/registries_config.h"
#include "runtimeservice/spec/capabilities.h"
#include "runtimeservice/spec/device_nodes.h"
#include "runtimeservice/spec/node_mounts.h"
#include "runtimeservice/spec/sysctls.h"

namespace crispd {
namespace {

absl::Status Invalid(std::string message) {
  return absl::InvalidArgumentError(base::ToAbsl(message));
}

absl::Status CheckRange(int64_t number, int64_t least, int64_t most) {
  return number >= least && number <= most
             ? absl::OkStatus()
             : Invalid(base::StrCat("want ", least, " to ", most, ", got ", number));
}

}  // namespace

absl::Status CheckPath(std::string_view text) {
  return text.starts_with('/') ? absl::OkStatus()
                               : Invalid(base::StrCat("want an absolute path, got \"", text, "\""));
}

absl::Status CheckOptionalPath(std::string_view text) {
  return text.empty() ? absl::OkStatus() : CheckPath(text);
}

absl::Status CheckSocket(std::string_view text) {
  RETURN_IF_ERROR(CheckOptionalPath(text));
  // struct sockaddr_un holds 108 bytes with the final NUL.
  return text.size() <= 107 ? absl::OkStatus()
                            : Invalid(base::StrCat(
                                  "a socket's path has at most 107 bytes, this one ", text.size()));
}

absl::Status CheckCgroup(std::string_view text) {
  RETURN_IF_ERROR(CheckPath(text));
  return text.size() > 1 && text.find("/..") == std::string_view::npos
             ? absl::OkStatus()
             : Invalid(base::StrCat("\"", text, "\" is no cgroup of its own"));
}

absl::Status CheckOptionalCgroup(std::string_view text) {
  return text.empty() ? absl::OkStatus() : CheckCgroup(text);
}

absl::Status CheckLogLevel(std::string_view text) { return base::ParseLogLevel(text).status(); }

absl::Status CheckCgroupManager(std::string_view text) {
  return text.empty() || text == "cgroupfs" || text == "systemd"
             ? absl::OkStatus()
             : Invalid(base::StrCat("unknown cgroup manager \"", text,
                                    "\": use \"cgroupfs\" or \"systemd\""));
}

absl::Status CheckAssignment(std::string_view text) {
  const size_t equals = text.find('=');
  return equals != std::string_view::npos && equals > 0
             ? absl::OkStatus()
             : Invalid(base::StrCat("want NAME=VALUE, got \"", text, "\""));
}

absl::Status CheckSysctl(std::string_view text) {
  RETURN_IF_ERROR(CheckAssignment(text));
  const size_t equals = text.find('=');
  const std::string name(text.substr(0, equals));
  return base::Annotate(runtimeservice::CheckSysctl(name, std::string(text.substr(equals + 1))),
                        name);
}

absl::Status CheckCapability(std::string_view text) {
  return runtimeservice::ParseCapability(text).ok()
             ? absl::OkStatus()
             : Invalid(base::StrCat("want a capability such as \"CHOWN\", got \"", text, "\""));
}

absl::Status CheckUlimit(std::string_view text) {
  constexpr std::string_view kNames[] = {
      "as",   "core",   "cpu",   "data", "fsize",  "locks",  "memlock",    "msgqueue",
      "nice", "nofile", "nproc", "rss",  "rtprio", "rttime", "sigpending", "stack"};
  const std::vector<std::string> parts =
      absl::StrSplit(base::ToAbsl(text), absl::MaxSplits(absl::ByAnyChar("=:"), 2));
  int64_t soft = 0;
  int64_t hard = 0;
  const bool good = parts.size() >= 2 && absl::SimpleAtoi(parts[1], &soft) &&
                    (parts.size() == 2 || absl::SimpleAtoi(parts[2], &hard)) && soft >= -1 &&
                    hard >= -1 && (parts.size() == 2 || hard == -1 || (soft >= 0 && soft <= hard));
  if (!good) {
    return Invalid(base::StrCat("want NAME=SOFT:HARD, got \"", text, "\""));
  }
  return std::find(std::begin(kNames), std::end(kNames), absl::AsciiStrToLower(parts[0])) !=
                 std::end(kNames)
             ? absl::OkStatus()
             : Invalid(base::StrCat("\"", parts[0], "\" is no limit of setrlimit(2)"));
}

absl::Status CheckDevice(std::string_view text) {
  return runtimeservice::ParseDeviceRequest(text).status();
}

absl::Status CheckRuntimeType(std::string_view text) {
  if (text == "oci") return absl::OkStatus();
  if (text == "vm") {
    return Invalid(
        "the runtime type \"vm\" (a shim of containerd's protocol) is not built: only "
        "\"oci\" is");
  }
  return Invalid(base::StrCat("unknown runtime type \"", text, "\": use \"oci\""));
}

absl::Status CheckRuntimeArgument(std::string_view text) {
  return text.starts_with('-') ? absl::OkStatus()
                               : Invalid(base::StrCat("want an option such as \"--debug\" or "
                                                      "\"--platform=kvm\", got \"",
                                                      text, "\""));
}

absl::StatusOr<int64_t> ParseByteSize(std::string_view text) {
  struct Unit {
    std::string_view name;
    int64_t bytes;
  };
  constexpr Unit kUnits[] = {{"KiB", 1 << 10}, {"MiB", 1 << 20},   {"GiB", 1 << 30}, {"KB", 1000},
                             {"MB", 1000000},  {"GB", 1000000000}, {"B", 1},         {"", 1}};
  if (text.empty()) return 0;
  for (const Unit& unit : kUnits) {
    if (!text.ends_with(unit.name)) continue;
    std::string_view digits = text.substr(0, text.size() - unit.name.size());
    while (digits.ends_with(' ')) digits.remove_suffix(1);
    int64_t number = 0;
    if (absl::SimpleAtoi(base::ToAbsl(digits), &number) && number >= 0 &&
        number <= INT64_MAX / unit.bytes) {
      return number * unit.bytes;
    }
    break;
  }
  return Invalid(base::StrCat("want a size such as \"12MiB\", got \"", text, "\""));
}

absl::Status CheckByteSize(std::string_view text) { return ParseByteSize(text).status(); }

absl::Status CheckRegistry(std::string_view text) {
  return !text.empty() && text.find("://") == std::string_view::npos
             ? absl::OkStatus()
             : Invalid(base::StrCat("want a registry such as \"host:5000\", got \"", text, "\""));
}

absl::Status CheckShortNameMode(std::string_view text) {
  return text.empty() || imageservice::ParseShortNameMode(text)
             ? absl::OkStatus()
             : Invalid(base::StrCat("want \"enforcing\", \"permissive\" or \"disabled\", got \"",
                                    text, "\""));
}

absl::Status CheckTimezone(std::string_view text) { return runtimeservice::CheckTimezone(text); }

absl::Status CheckImageVolumes(std::string_view text) {
  return text == "mkdir" || text == "bind" || text == "ignore"
             ? absl::OkStatus()
             : Invalid(base::StrCat("want \"mkdir\", \"bind\" or \"ignore\", got \"", text, "\""));
}

absl::Status CheckIpPreference(std::string_view text) {
  return text == "ipv4" || text == "ipv6" || text == "cni"
             ? absl::OkStatus()
             : Invalid(base::StrCat("want \"ipv4\", \"ipv6\" or \"cni\", got \"", text, "\""));
}

absl::Status CheckNotEmpty(std::string_view text) {
  return text.empty() ? Invalid("must not be empty") : absl::OkStatus();
}

absl::Status CheckMessageSize(int64_t number) {
  // gRPC keeps the limit in an int.
  constexpr int64_t kSmallest = 4 << 20;
  return number >= kSmallest && number <= INT32_MAX
             ? absl::OkStatus()
             : Invalid(base::StrCat("want ", kSmallest, " to ", INT32_MAX, " bytes, got ", number));
}

absl::Status CheckPositive(int64_t number) {
  return number > 0 ? absl::OkStatus()
                    : Invalid(base::StrCat("want a number above 0, got ", number));
}

absl::Status CheckSmallCount(int64_t number) {
  constexpr int64_t kMost = 1000;
  return number > 0 && number <= kMost
             ? absl::OkStatus()
             : Invalid(base::StrCat("want 1 to ", kMost, ", got ", number));
}

absl::Status CheckNotNegative(int64_t number) {
  return number >= 0 ? absl::OkStatus() : Invalid(base::StrCat("want 0 or more, got ", number));
}

absl::Status CheckPidsLimit(int64_t number) {
  return number >= -1 ? absl::OkStatus()
                      : Invalid(base::StrCat("want -1, 0 or a limit, got ", number));
}

absl::Status CheckIpAddress(std::string_view text) {
  in6_addr address;
  const std::string name(text);
  return inet_pton(AF_INET, name.c_str(), &address) == 1 ||
                 inet_pton(AF_INET6, name.c_str(), &address) == 1
             ? absl::OkStatus()
             : Invalid(base::StrCat("want an IP address, got \"", text, "\""));
}

absl::Status CheckPort(int64_t number) { return CheckRange(number, 0, 65535); }

absl::Status CheckTlsVersion(std::string_view text) {
  return text == "VersionTLS12" || text == "VersionTLS13"
             ? absl::OkStatus()
             : Invalid(
                   base::StrCat("want \"VersionTLS12\" or \"VersionTLS13\", got \"", text, "\""));
}

absl::Status CheckCipherSuite(std::string_view text) {
  const bool plain = std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  });
  return plain && text.starts_with("TLS_")
             ? absl::OkStatus()
             : Invalid(
                   base::StrCat("want a name such as \"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256\", "
                                "got \"",
                                text, "\""));
}

absl::Status CheckSeconds(int64_t number) { return CheckRange(number, 0, 315'360'000); }
absl::Status CheckSomeSeconds(int64_t number) { return CheckRange(number, 1, 86'400); }
absl::Status CheckStreamCount(int64_t number) { return CheckRange(number, 1, 100'000); }
absl::Status CheckFrameSize(int64_t number) { return CheckRange(number, 64 << 10, (1 << 24) - 1); }
absl::Status CheckHeaderSize(int64_t number) { return CheckRange(number, 4 << 10, 1 << 20); }

}  // namespace crispd
