// The image's passwd and group files are foreign bytes.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "runtimeservice/spec/user.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto by_uid = runtimeservice::FindPasswdUid(text, 1000);
  if (by_uid.has_value() && by_uid->uid != 1000) {
    std::abort();
  }
  const auto by_name = runtimeservice::FindPasswdName(text, "app");
  if (by_name.has_value() && by_name->name != "app") {
    std::abort();
  }
  runtimeservice::FindGroup(text, "app");
  if (runtimeservice::GroupsOfMember(text, "app", 8).size() > 8) {
    std::abort();
  }
  return 0;
}
