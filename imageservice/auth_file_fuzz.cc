// auth.json in both forms, a helper's answer, an AuthConfig's `auth`.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "imageservice/auth_file.h"
#include "imageservice/credential_helpers.h"
#include "imageservice/credentials.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using imageservice::AuthFile;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  imageservice::ParseHelperAnswer(text).status().IgnoreError();
  imageservice::DecodeBasic(std::string(text)).status().IgnoreError();
  imageservice::RegistryOf(text);
  for (const auto format : {AuthFile::Format::kAuthJson, AuthFile::Format::kDockercfg}) {
    const absl::StatusOr<AuthFile> file = AuthFile::Parse(text, format);
    if (!file.ok()) {
      continue;
    }
    for (const std::string_view registry : {"docker.io", "q.io", "a.io:5000"}) {
      const auto helper = file->Helper(registry);
      if (helper && !imageservice::CheckHelperName(helper->helper).ok()) {
        std::abort();
      }
      file->Find(registry, "team/app").status().IgnoreError();
    }
  }
  return 0;
}
