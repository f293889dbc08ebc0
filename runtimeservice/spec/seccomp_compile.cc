// From plain OCI profiles to BPF, by libseccomp.
#include <seccomp.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <vector>

#include "base/files.h"
#include "base/status_macros.h"
#include "base/strings.h"
#include "base/unique_fd.h"
#include "runtimeservice/spec/seccomp.h"

namespace runtimeservice {
namespace {

using base::OrderedJson;

constexpr size_t kMaxFilterBytes = size_t{4096} * 8;  // BPF_MAXINSNS instructions.

struct ReleaseFilter {
  void operator()(void* filter) const { seccomp_release(filter); }
};
using FilterPtr = std::unique_ptr<void, ReleaseFilter>;

// A string member; the profile was checked by ExpandSeccompProfile.
std::string Text(const OrderedJson& object, const char* key) {
  const auto member = object.find(key);
  return member != object.end() && member->is_string() ? member->get<std::string>() : std::string();
}

template <typename Number>
Number NumberOr(const OrderedJson& object, const char* key, Number fallback) {
  const auto member = object.find(key);
  return member != object.end() && member->is_number() ? member->get<Number>() : fallback;
}

const OrderedJson& Elements(const OrderedJson& object, const char* key) {
  static const OrderedJson kNone = OrderedJson::array();
  const auto member = object.find(key);
  return member != object.end() && member->is_array() ? *member : kNone;
}

absl::Status LibraryError(int result, std::string_view what) {
  return absl::InvalidArgumentError(base::StrCat(
      "compile seccomp filter: ", base::ToStd(base::ErrnoStatus(-result, what).message())));
}

uint32_t Action(const std::string& name, unsigned error) {
  if (name == "SCMP_ACT_ALLOW") return SCMP_ACT_ALLOW;
  if (name == "SCMP_ACT_ERRNO") return SCMP_ACT_ERRNO(error);
  if (name == "SCMP_ACT_TRAP") return SCMP_ACT_TRAP;
  if (name == "SCMP_ACT_TRACE") return SCMP_ACT_TRACE(error);
  if (name == "SCMP_ACT_LOG") return SCMP_ACT_LOG;
  if (name == "SCMP_ACT_KILL_PROCESS") return SCMP_ACT_KILL_PROCESS;
  return SCMP_ACT_KILL;
}

scmp_compare Operator(const std::string& name) {
  if (name == "SCMP_CMP_NE") return SCMP_CMP_NE;
  if (name == "SCMP_CMP_LT") return SCMP_CMP_LT;
  if (name == "SCMP_CMP_LE") return SCMP_CMP_LE;
  if (name == "SCMP_CMP_EQ") return SCMP_CMP_EQ;
  if (name == "SCMP_CMP_GE") return SCMP_CMP_GE;
  if (name == "SCMP_CMP_GT") return SCMP_CMP_GT;
  return SCMP_CMP_MASKED_EQ;
}

// "SCMP_ARCH_X86_64" is libseccomp's "x86_64".
uint32_t Architecture(const std::string& name) {
  std::string token = name.substr(std::string_view("SCMP_ARCH_").size());
  for (char& c : token) {
    c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  }
  return seccomp_arch_resolve_name(token.c_str());
}

// The listed architectures that this libseccomp knows; the native one is there from the start.
absl::Status AddArchitectures(void* filter, const OrderedJson& profile) {
  for (const OrderedJson& entry : Elements(profile, "architectures")) {
    const std::string name = entry.get<std::string>();
    const uint32_t token = Architecture(name);
    const int result = token == 0 ? 0 : seccomp_arch_add(filter, token);
    if (result != 0 && result != -EEXIST) {
      return LibraryError(result, name);
    }
  }
  return absl::OkStatus();
}

absl::Status AddRule(void* filter, const OrderedJson& rule, uint32_t default_action) {
  const uint32_t action = Action(Text(rule, "action"), NumberOr<unsigned>(rule, "errnoRet", EPERM));
  if (action == default_action) {
    return absl::OkStatus();  // Says nothing, and libseccomp refuses it.
  }
  std::vector<scmp_arg_cmp> arguments;
  for (const OrderedJson& argument : Elements(rule, "args")) {
    const scmp_compare op = Operator(Text(argument, "op"));
    // MASKED_EQ takes the mask first, as OCI's value and valueTwo do.
    arguments.push_back({NumberOr<unsigned>(argument, "index", 0), op,
                         NumberOr<scmp_datum_t>(argument, "value", 0),
                         NumberOr<scmp_datum_t>(argument, "valueTwo", 0)});
  }
  for (const OrderedJson& entry : Elements(rule, "names")) {
    const std::string name = entry.get<std::string>();
    const int number = seccomp_syscall_resolve_name(name.c_str());
    if (number == __NR_SCMP_ERROR) {
      continue;
    }
    const int result = seccomp_rule_add_array(
        filter, action, number, static_cast<unsigned>(arguments.size()), arguments.data());
    if (result != 0) {
      return LibraryError(result, name);
    }
  }
  return absl::OkStatus();
}

bool Notifies(const OrderedJson& profile) {
  for (const OrderedJson& rule : Elements(profile, "syscalls")) {
    if (Text(rule, "action") == "SCMP_ACT_NOTIFY") {
      return true;
    }
  }
  return Text(profile, "defaultAction") == "SCMP_ACT_NOTIFY";
}

absl::StatusOr<std::string> Export(void* filter) {
  const base::UniqueFd file(memfd_create("seccomp", MFD_CLOEXEC));
  if (!file.valid()) {
    return base::ErrnoStatus(errno, "memfd_create");
  }
  const int result = seccomp_export_bpf(filter, file.get());
  if (result != 0) {
    return LibraryError(result, "export");
  }
  if (lseek(file.get(), 0, SEEK_SET) != 0) {
    return base::ErrnoStatus(errno, "seek seccomp filter");
  }
  absl::StatusOr<std::string> bpf = base::ReadFd(file.get(), "seccomp filter", kMaxFilterBytes);
  if (absl::IsResourceExhausted(bpf.status())) {
    return absl::InvalidArgumentError("the seccomp filter is longer than the kernel takes");
  }
  return bpf;
}

}  // namespace

absl::StatusOr<std::string> CompileSeccomp(const OrderedJson& expanded) {
  if (Notifies(expanded)) {
    return std::string();
  }
  const uint32_t default_action = Action(Text(expanded, "defaultAction"),
                                         NumberOr<unsigned>(expanded, "defaultErrnoRet", EPERM));
  const FilterPtr filter(seccomp_init(default_action));
  if (filter == nullptr) {
    return absl::InvalidArgumentError("compile seccomp filter: bad default action");
  }
  RETURN_IF_ERROR(AddArchitectures(filter.get(), expanded));
  for (const OrderedJson& rule : Elements(expanded, "syscalls")) {
    RETURN_IF_ERROR(AddRule(filter.get(), rule, default_action));
  }
  return Export(filter.get());
}

}  // namespace runtimeservice
