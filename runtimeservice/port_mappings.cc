#include "runtimeservice/port_mappings.h"

#include <arpa/inet.h>

#include <set>
#include <string>
#include <tuple>

#include "base/strings.h"

namespace runtimeservice {
namespace {

constexpr int kMaxPort = 65535;

// The canonical form of an address; empty when it is none.
std::string Canonical(const std::string& address) {
  unsigned char bytes[sizeof(in6_addr)];
  char text[INET6_ADDRSTRLEN];
  for (const int family : {AF_INET, AF_INET6}) {
    if (inet_pton(family, address.c_str(), bytes) == 1) {
      return inet_ntop(family, bytes, text, sizeof(text));
    }
  }
  return "";
}

}  // namespace

absl::Status CheckPortMappings(const cri::PodSandboxConfig& config) {
  const bool host_network =
      config.linux().security_context().namespace_options().network() == cri::NODE;
  std::set<std::tuple<int, std::string, int>> taken;  // Protocol, address, port.
  for (int i = 0; i < config.port_mappings_size(); ++i) {
    const cri::PortMapping& mapping = config.port_mappings(i);
    const auto wrong = [i](const auto&... what) {
      return absl::InvalidArgumentError(base::StrCat("config.port_mappings[", i, "]", what...));
    };
    if (!cri::Protocol_IsValid(mapping.protocol())) {
      return wrong(".protocol: there is no protocol ", mapping.protocol());
    }
    if (mapping.host_port() < 0 || mapping.host_port() > kMaxPort) {
      return wrong(".host_port: ", mapping.host_port(), " is not a port");
    }
    const int lowest = mapping.host_port() == 0 ? 0 : 1;
    if (mapping.container_port() < lowest || mapping.container_port() > kMaxPort) {
      return wrong(".container_port: ", mapping.container_port(), " is not a port");
    }
    const std::string address = Canonical(mapping.host_ip());
    if (!mapping.host_ip().empty() && address.empty()) {
      return wrong(".host_ip: \"", mapping.host_ip(), "\" is not an IP address");
    }
    if (mapping.host_port() != 0 && !host_network &&
        !taken.emplace(mapping.protocol(), address, mapping.host_port()).second) {
      return wrong(".host_port: ", mapping.host_port(), " is asked for twice");
    }
  }
  return absl::OkStatus();
}

}  // namespace runtimeservice
