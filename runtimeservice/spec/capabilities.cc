#include "runtimeservice/spec/capabilities.h"

#include <array>
#include <cctype>
#include <cstdint>

#include "absl/status/status.h"
#include "base/status_macros.h"
#include "base/strings.h"

namespace runtimeservice {
namespace {

// By number, as <linux/capability.h> has them.
constexpr std::array<std::string_view, 41> kNames = {
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
};

constexpr std::string_view kField = "linux.security_context.capabilities.";
constexpr std::string_view kAmbient = "add_ambient_capabilities";

std::string Upper(std::string_view text) {
  std::string upper(text);
  for (char& c : upper) {
    c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  }
  return upper;
}

uint64_t Bit(std::string_view name) { return uint64_t{1} << CapabilityNumber(name); }

uint64_t MaskOf(const Capabilities& names) {
  uint64_t mask = 0;
  for (const std::string& name : names) {
    if (CapabilityNumber(name) >= 0) {
      mask |= Bit(name);
    }
  }
  return mask;
}

Capabilities NamesOf(uint64_t mask) {
  Capabilities names;
  for (size_t number = 0; number < kNames.size(); ++number) {
    if ((mask >> number & 1) != 0) {
      names.emplace_back(kNames[number]);
    }
  }
  return names;
}

// A list of names: the single ones, and whether ALL is among them.
struct NamedMask {
  uint64_t mask = 0;
  bool all = false;
};

template <typename Names>
absl::StatusOr<NamedMask> ParseList(const Names& names, std::string_view field) {
  NamedMask result;
  int index = 0;
  for (const std::string& name : names) {
    const std::string upper = Upper(name);
    if (upper == "ALL" || upper == "CAP_ALL") {
      result.all = true;
    } else {
      absl::StatusOr<std::string> parsed = ParseCapability(name);
      if (!parsed.ok()) {
        return base::Annotate(parsed.status(), base::StrCat(kField, field, "[", index, "]"));
      }
      result.mask |= Bit(*parsed);
    }
    ++index;
  }
  return result;
}

}  // namespace

int CapabilityNumber(std::string_view name) {
  for (size_t number = 0; number < kNames.size(); ++number) {
    if (kNames[number] == name) {
      return static_cast<int>(number);
    }
  }
  return -1;
}

std::string_view CapabilityName(int number) {
  const auto index = static_cast<size_t>(number);
  return number >= 0 && index < kNames.size() ? kNames[index] : std::string_view();
}

absl::StatusOr<std::string> ParseCapability(std::string_view name) {
  std::string upper = Upper(name);
  if (upper.rfind("CAP_", 0) != 0) {
    upper.insert(0, "CAP_");
  }
  if (CapabilityNumber(upper) < 0) {
    return absl::InvalidArgumentError(base::StrCat("unknown capability \"", name, "\""));
  }
  return upper;
}

absl::StatusOr<Capabilities> ContainerCapabilities(
    const cri::LinuxContainerSecurityContext& security, const Capabilities& defaults,
    const HostFacts& host) {
  const uint64_t held = MaskOf(host.capabilities);
  if (security.privileged()) {
    return NamesOf(held);
  }
  const cri::Capability& request = security.capabilities();
  ASSIGN_OR_RETURN(const NamedMask add, ParseList(request.add_capabilities(), "add_capabilities"));
  ASSIGN_OR_RETURN(const NamedMask drop,
                   ParseList(request.drop_capabilities(), "drop_capabilities"));
  ASSIGN_OR_RETURN(const NamedMask ambient,
                   ParseList(request.add_ambient_capabilities(), kAmbient));
  uint64_t mask = MaskOf(defaults) & held;
  if (add.all) {
    mask = held;
  }
  if (drop.all) {
    mask = 0;
  }
  const uint64_t wanted = (add.mask | ambient.mask) & ~drop.mask;
  if ((wanted & ~held) != 0) {
    const bool added = (add.mask & ~drop.mask & ~held) != 0;
    return absl::FailedPreconditionError(base::StrCat(kField, added ? "add_capabilities" : kAmbient,
                                                      ": the daemon itself lacks ",
                                                      NamesOf(wanted & ~held).front()));
  }
  return NamesOf((mask | wanted) & ~drop.mask);
}

absl::StatusOr<Capabilities> AmbientCapabilities(const cri::LinuxContainerSecurityContext& security,
                                                 const Capabilities& bounding) {
  ASSIGN_OR_RETURN(const NamedMask ambient,
                   ParseList(security.capabilities().add_ambient_capabilities(), kAmbient));
  const uint64_t all = MaskOf(bounding);
  return NamesOf(ambient.all ? all : ambient.mask & all);
}

}  // namespace runtimeservice
