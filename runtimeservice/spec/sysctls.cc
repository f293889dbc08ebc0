#include "runtimeservice/spec/sysctls.h"

#include <algorithm>
#include <string_view>

#include "absl/status/status.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace runtimeservice {
namespace {

bool HasPrefix(std::string_view name, std::string_view prefix) {
  return name.substr(0, prefix.size()) == prefix;
}

// The dotted name. With "/" as the first separator the other "/" are dots and dots are part of a
// component (an interface's name), which the dotted form writes as "/" (sysctl.d(5)).
std::string DottedName(std::string name) {
  const size_t first = name.find_first_of("./");
  if (first != std::string::npos && name[first] == '/') {
    for (char& c : name) {
      c = c == '/' ? '.' : c == '.' ? '/' : c;
    }
  }
  return name;
}

bool PlainName(std::string_view name) {
  if (name.empty() || name.find("..") != std::string_view::npos ||
      name.find("//") != std::string_view::npos || name.find("./") != std::string_view::npos ||
      name.find("/.") != std::string_view::npos || name.front() == '.' || name.back() == '.') {
    return false;
  }
  return std::all_of(name.begin(), name.end(),
                     [](unsigned char c) { return c > 0x20 && c < 0x7f; });
}

bool PlainValue(std::string_view value) {
  return std::none_of(value.begin(), value.end(),
                      [](unsigned char c) { return (c < 0x20 && c != '\t') || c == 0x7f; });
}

bool Private(const cri::PodSandboxConfig& pod, SysctlNamespace holder) {
  const cri::NamespaceOption& options = pod.linux().security_context().namespace_options();
  switch (holder) {
    case SysctlNamespace::kIpc:
      return options.ipc() != cri::NODE;
    case SysctlNamespace::kNet:
      return options.network() != cri::NODE;
    case SysctlNamespace::kNone:
      break;
  }
  return false;
}

}  // namespace

SysctlNamespace NamespaceOfSysctl(const std::string& name) {
  if (HasPrefix(name, "net.")) {
    return SysctlNamespace::kNet;
  }
  if (HasPrefix(name, "kernel.shm") || HasPrefix(name, "kernel.msg") || name == "kernel.sem" ||
      HasPrefix(name, "fs.mqueue.")) {
    return SysctlNamespace::kIpc;
  }
  return SysctlNamespace::kNone;
}

absl::Status CheckSysctl(const std::string& name, const std::string& value) {
  const std::string dotted = DottedName(name);
  if (!PlainName(dotted) || !PlainValue(value)) {
    return absl::InvalidArgumentError("malformed name or value");
  }
  return NamespaceOfSysctl(dotted) == SysctlNamespace::kNone
             ? absl::InvalidArgumentError("it belongs to no namespace of a pod")
             : absl::OkStatus();
}

absl::StatusOr<std::map<std::string, std::string>> PodSysctls(
    const cri::PodSandboxConfig& pod, const std::map<std::string, std::string>& defaults) {
  std::map<std::string, std::string> result;
  for (const auto& [name, value] : defaults) {
    const std::string dotted = DottedName(name);
    if (Private(pod, NamespaceOfSysctl(dotted))) {
      result[dotted] = value;
    }
  }
  for (const auto& [name, value] : pod.linux().sysctls()) {
    const std::string dotted = DottedName(name);
    const std::string field = base::StrCat("linux.sysctls[\"", name, "\"]");
    RETURN_IF_ERROR(base::Annotate(CheckSysctl(name, value), field));
    if (!Private(pod, NamespaceOfSysctl(dotted))) {
      return absl::InvalidArgumentError(base::StrCat(field, ": its namespace is the host's"));
    }
    result[dotted] = value;
  }
  return result;
}

}  // namespace runtimeservice
