// hosts.toml: what comes out of it can be put into a URL and a request.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "imageservice/hosts_toml.h"
#include "imageservice/reference.h"

namespace {

void Check(const imageservice::RegistryHost& host) {
  const bool own = host.url.empty() && host.authority.empty();
  const bool url = (host.url.starts_with("https://" + host.authority) ||
                    host.url.starts_with("http://" + host.authority)) &&
                   host.url.find("/../") == std::string::npos && !host.url.ends_with("/..") &&
                   host.url.find_first_of(" ?#\r\n") == std::string::npos &&
                   imageservice::IsRegistryHost(host.authority);
  if ((!own && !url) || host.connect_timeout_seconds <= 0) {
    std::abort();
  }
  for (const std::string& header : host.headers) {
    if (header.find(": ") == std::string::npos ||
        header.find_first_of("\r\n") != std::string::npos) {
      std::abort();
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto hosts = imageservice::ParseHostsToml(text, "fuzz");
  if (!hosts.ok()) {
    return 0;
  }
  Check(hosts->server);
  for (const imageservice::RegistryHost& host : hosts->mirrors) {
    Check(host);
  }
  return 0;
}
