// Labels come from requests and from a file of the policy's package.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "runtimeservice/spec/selinux.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto label = runtimeservice::ParseSelinuxLabel(text);
  if (label.ok()) {
    // It says what it was made from, and each part passes as an option.
    cri::SELinuxOption options;
    options.set_user(label->user);
    options.set_role(label->role);
    options.set_type(label->type);
    options.set_level(label->level);
    if (label->Text() != text ||
        (size < 4096 && !runtimeservice::CheckSelinuxOptions(options).ok())) {
      std::abort();
    }
  }
  const runtimeservice::SelinuxContexts contexts = runtimeservice::ParseLxcContexts(text);
  if (!runtimeservice::ParseSelinuxLabel(contexts.process.Text()).ok() ||
      !runtimeservice::ParseSelinuxLabel(contexts.file.Text()).ok()) {
    std::abort();
  }
  return 0;
}
