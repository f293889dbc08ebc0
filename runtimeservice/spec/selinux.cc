#include "runtimeservice/spec/selinux.h"

#include <algorithm>
#include <random>
#include <utility>

#include "base/files.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace runtimeservice {
namespace {

constexpr std::string_view kField = "linux.security_context.selinux_options";
constexpr unsigned kCategories = 1024;
constexpr size_t kMaxLabel = 4096;
constexpr char kSuperPrivileged[] = "spc_t";

// Cuts the text before the next `separator` off the front of `*rest`.
std::string_view Cut(std::string_view* rest, char separator) {
  const size_t end = std::min(rest->find(separator), rest->size());
  const std::string_view piece = rest->substr(0, end);
  rest->remove_prefix(std::min(end + 1, rest->size()));
  return piece;
}

std::string_view Trimmed(std::string_view text, std::string_view what) {
  text.remove_prefix(std::min(text.find_first_not_of(what), text.size()));
  return text.substr(0, text.find_last_not_of(what) + 1);
}

bool IsName(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.';
  });
}

bool IsNumbered(std::string_view text, char letter) {
  return text.size() > 1 && text.size() < 10 && text.front() == letter &&
         text.find_first_not_of("0123456789", 1) == std::string_view::npos;
}

// "s0", "s0:c1,c2.c5".
bool IsSensitivity(std::string_view text) {
  const bool categories = text.find(':') != std::string_view::npos;
  if (!IsNumbered(Cut(&text, ':'), 's') || (categories && (text.empty() || text.back() == ','))) {
    return false;
  }
  while (!text.empty()) {
    std::string_view range = Cut(&text, ',');
    const bool two = range.find('.') != std::string_view::npos;
    if (!IsNumbered(Cut(&range, '.'), 'c') || (two && !IsNumbered(range, 'c'))) {
      return false;
    }
  }
  return true;
}

// One sensitivity, or two as a range.
bool IsLevel(std::string_view text) {
  const bool range = text.find('-') != std::string_view::npos;
  return IsSensitivity(Cut(&text, '-')) && (!range || IsSensitivity(text));
}

bool Empty(const cri::SELinuxOption& options) {
  return options.user().empty() && options.role().empty() && options.type().empty() &&
         options.level().empty();
}

// The labels that `base` and the options over it make. The files' type and role are the policy's.
SelinuxLabels Merge(SelinuxLabel process, SelinuxLabel file, const cri::SELinuxOption& options) {
  if (!options.user().empty()) process.user = file.user = options.user();
  if (!options.role().empty()) process.role = options.role();
  if (!options.type().empty()) process.type = options.type();
  if (!options.level().empty()) process.level = options.level();
  file.level = process.level;
  return {process.Text(), file.Text()};
}

absl::Status AskKernel(const std::string& label) {
  // Taking part in the write is the question: security_check_context(3).
  const absl::Status written = base::WriteControlFile("/sys/fs/selinux/context", label);
  return written.ok()
             ? absl::OkStatus()
             : absl::InvalidArgumentError(base::StrCat("the policy does not know \"", label, "\""));
}

// The value of "KEY=VALUE" or `KEY = "VALUE"` in a file of such lines.
std::string Value(std::string_view text, std::string_view key) {
  while (!text.empty()) {
    std::string_view line = Cut(&text, '\n');
    if (Trimmed(Cut(&line, '='), " \t") == key) {
      return std::string(Trimmed(line, " \t\r\""));
    }
  }
  return "";
}

}  // namespace

absl::StatusOr<SelinuxLabel> ParseSelinuxLabel(std::string_view text) {
  SelinuxLabel label;
  std::string_view rest = text;
  label.user = Cut(&rest, ':');
  label.role = Cut(&rest, ':');
  label.type = Cut(&rest, ':');
  label.level = rest;
  if (!IsName(label.user) || !IsName(label.role) || !IsName(label.type) || !IsLevel(label.level)) {
    return absl::InvalidArgumentError(base::StrCat("\"", text, "\" is no SELinux label"));
  }
  return label;
}

absl::Status CheckSelinuxOptions(const cri::SELinuxOption& options) {
  for (const auto& [name, value] :
       {std::pair("user", &options.user()), std::pair("role", &options.role()),
        std::pair("type", &options.type())}) {
    if (!value->empty() && (!IsName(*value) || value->size() > kMaxLabel)) {
      return absl::InvalidArgumentError(
          base::StrCat(kField, ".", name, ": \"", *value, "\" is no name of SELinux's"));
    }
  }
  if (!options.level().empty() &&
      (!IsLevel(options.level()) || options.level().size() > kMaxLabel)) {
    return absl::InvalidArgumentError(
        base::StrCat(kField, ".level: \"", options.level(), "\" is no level such as s0:c1,c2"));
  }
  return absl::OkStatus();
}

SelinuxContexts ParseLxcContexts(std::string_view text) {
  SelinuxContexts contexts;
  if (absl::StatusOr<SelinuxLabel> label = ParseSelinuxLabel(Value(text, "process")); label.ok()) {
    contexts.process = *std::move(label);
  }
  if (absl::StatusOr<SelinuxLabel> label = ParseSelinuxLabel(Value(text, "file")); label.ok()) {
    contexts.file = *std::move(label);
  }
  return contexts;
}

SelinuxHost GatherSelinuxHost(bool wanted) {
  SelinuxHost host{.enabled = wanted && base::Exists("/sys/fs/selinux/enforce"),
                   .contexts = {},
                   .check = AskKernel};
  if (host.enabled) {
    const std::string type =
        Value(base::ReadFile("/etc/selinux/config").value_or(""), "SELINUXTYPE");
    host.contexts = ParseLxcContexts(
        base::ReadFile(base::StrCat("/etc/selinux/", type, "/contexts/lxc_contexts")).value_or(""));
    base::LogInfo("SELinux: containers are ", host.contexts.process.Text());
  }
  return host;
}

Selinux::Selinux(SelinuxHost host, bool hostnetwork_disable)
    : host_(std::move(host)), hostnetwork_disable_(hostnetwork_disable) {}

absl::StatusOr<std::string> Selinux::FreshLevel(const std::string& pod) {
  // The policy's own sensitivity, and two categories. There are half a million pairs, so that a
  // try hits one of the pods on a node about once in its life.
  std::string_view level = host_.contexts.process.level;
  const std::string sensitivity(Cut(&level, ':'));
  std::random_device random;
  base::MutexLock lock(&mutex_);
  for (int i = 0; i < 10'000; ++i) {
    const unsigned a = random() % kCategories;
    const unsigned b = random() % kCategories;
    const std::string fresh = base::StrCat(sensitivity, ":c", std::min(a, b), ",c", std::max(a, b));
    const bool taken = std::any_of(levels_.begin(), levels_.end(),
                                   [&fresh](const auto& entry) { return entry.second == fresh; });
    if (a != b && !taken) {
      levels_[pod] = fresh;
      return fresh;
    }
  }
  return absl::ResourceExhaustedError("SELinux: no free pair of categories is found");
}

absl::Status Selinux::Check(const SelinuxLabels& labels) const {
  for (const std::string* label : {&labels.process, &labels.mount}) {
    if (!label->empty()) {
      RETURN_IF_ERROR(base::Annotate(host_.check(*label), kField));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<SelinuxLabels> Selinux::ForPod(const std::string& pod,
                                              const cri::LinuxSandboxSecurityContext& security) {
  const cri::SELinuxOption& options = security.selinux_options();
  RETURN_IF_ERROR(CheckSelinuxOptions(options));
  const cri::NamespaceOption& namespaces = security.namespace_options();
  if (!host_.enabled || namespaces.pid() == cri::NODE || namespaces.ipc() == cri::NODE) {
    return SelinuxLabels();
  }
  SelinuxLabel process = host_.contexts.process;
  if (options.level().empty()) {
    ASSIGN_OR_RETURN(process.level, FreshLevel(pod));
  }
  SelinuxLabels labels = Merge(std::move(process), host_.contexts.file, options);
  if (const absl::Status valid = Check(labels); !valid.ok()) {
    Release(pod);
    return valid;
  }
  Reserve(pod, labels);
  if (hostnetwork_disable_ && namespaces.network() == cri::NODE) {
    labels.process.clear();
  }
  return labels;
}

absl::StatusOr<SelinuxLabels> Selinux::ForContainer(
    const SelinuxLabels& labels, const cri::LinuxContainerSecurityContext& security) const {
  const cri::SELinuxOption& options = security.selinux_options();
  RETURN_IF_ERROR(CheckSelinuxOptions(options));
  if (!host_.enabled || (Empty(options) && (labels.process.empty() || !security.privileged()))) {
    return host_.enabled ? labels : SelinuxLabels();
  }
  SelinuxLabel process = host_.contexts.process;
  SelinuxLabel file = host_.contexts.file;
  if (absl::StatusOr<SelinuxLabel> pods = ParseSelinuxLabel(labels.process); pods.ok()) {
    process = *std::move(pods);
  }
  if (absl::StatusOr<SelinuxLabel> pods = ParseSelinuxLabel(labels.mount); pods.ok()) {
    file = *std::move(pods);
    process.level = labels.process.empty() ? file.level : process.level;
  }
  const bool unconfined = security.privileged() && options.type().empty();
  if (unconfined) {
    process.type = kSuperPrivileged;
  }
  SelinuxLabels merged = Merge(std::move(process), std::move(file), options);
  const absl::Status valid = Check(merged);
  if (!valid.ok() && unconfined && Empty(options)) {
    return SelinuxLabels{"", labels.mount};  // A policy without spc_t: as the daemon itself.
  }
  RETURN_IF_ERROR(valid);
  return merged;
}

void Selinux::Reserve(const std::string& pod, const SelinuxLabels& labels) {
  // The files' label: the process may have none on the host's network.
  if (const absl::StatusOr<SelinuxLabel> label = ParseSelinuxLabel(labels.mount); label.ok()) {
    base::MutexLock lock(&mutex_);
    levels_[pod] = label->level;
  }
}

void Selinux::Release(const std::string& pod) {
  base::MutexLock lock(&mutex_);
  levels_.erase(pod);
}

}  // namespace runtimeservice
