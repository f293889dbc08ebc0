#include "network/cni_result.h"

#include <arpa/inet.h>

#include <algorithm>
#include <iterator>
#include <set>
#include <utility>

#include "base/status_macros.h"
#include "base/strings.h"

namespace network {
namespace {

struct Address {
  std::string text;
  bool ipv6 = false;
};

// The canonical form of the address in "10.1.2.3/24".
absl::StatusOr<Address> ParseAddress(const std::string& cidr) {
  const std::string text = cidr.substr(0, cidr.find('/'));
  unsigned char bytes[sizeof(in6_addr)];
  for (const int family : {AF_INET, AF_INET6}) {
    char canonical[INET6_ADDRSTRLEN];
    if (inet_pton(family, text.c_str(), bytes) == 1 &&
        inet_ntop(family, bytes, canonical, sizeof(canonical)) != nullptr) {
      return Address{.text = canonical, .ipv6 = family == AF_INET6};
    }
  }
  return absl::InvalidArgumentError(base::StrCat("\"", cidr, "\" is not an address"));
}

// The positions of the interfaces called `ifname` inside the pod.
absl::StatusOr<std::set<int64_t>> PodInterfaces(const base::Json& result, std::string_view ifname) {
  const base::Json& interfaces = base::JsonMember(result, "interfaces");
  if (!interfaces.is_null() && !interfaces.is_array()) {
    return absl::InvalidArgumentError("\"interfaces\" is not a list");
  }
  std::set<int64_t> positions;
  int64_t position = 0;
  for (const base::Json& interface : interfaces) {
    ASSIGN_OR_RETURN(const std::string name, base::JsonString(interface, "name"));
    ASSIGN_OR_RETURN(const std::string sandbox, base::JsonString(interface, "sandbox"));
    if (name == ifname && !sandbox.empty()) {
      positions.insert(position);
    }
    ++position;
  }
  return positions;
}

}  // namespace

absl::StatusOr<base::Json> ParseCniResult(std::string_view text, std::string_view cni_version) {
  absl::StatusOr<base::Json> result = base::ParseJson(text);
  RETURN_IF_ERROR(base::Annotate(result.status(), "result"));
  return CheckCniResult(*std::move(result), cni_version);
}

absl::StatusOr<base::Json> CheckCniResult(base::Json result, std::string_view cni_version) {
  ASSIGN_OR_RETURN(const std::string version, base::JsonString(result, "cniVersion"));
  if (version.empty()) {
    result["cniVersion"] = std::string(cni_version);
  }
  return result;
}

absl::StatusOr<std::vector<std::string>> PodIps(const base::Json& result, std::string_view ifname,
                                                IpPreference preference) {
  ASSIGN_OR_RETURN(const std::set<int64_t> inside, PodInterfaces(result, ifname));
  const base::Json& entries = base::JsonMember(result, "ips");
  if (!entries.is_null() && !entries.is_array()) {
    return absl::InvalidArgumentError("\"ips\" is not a list");
  }
  std::vector<Address> addresses;
  for (const base::Json& entry : entries) {
    ASSIGN_OR_RETURN(const int64_t interface, base::JsonInt(entry, "interface", -1));
    const bool unassigned = base::JsonMember(entry, "interface").is_null();
    ASSIGN_OR_RETURN(const std::string cidr, base::JsonString(entry, "address"));
    ASSIGN_OR_RETURN(Address address, ParseAddress(cidr));
    const bool known = std::any_of(addresses.begin(), addresses.end(), [&](const Address& other) {
      return other.text == address.text;
    });
    if ((unassigned || inside.count(interface) != 0) && !known) {
      addresses.push_back(std::move(address));
    }
  }
  std::vector<std::string> ips;
  std::vector<std::string> others;
  for (Address& address : addresses) {
    const bool wanted = preference == IpPreference::kAsReturned ||
                        address.ipv6 == (preference == IpPreference::kIpv6);
    (wanted ? ips : others).push_back(std::move(address.text));
  }
  ips.insert(ips.end(), std::make_move_iterator(others.begin()),
             std::make_move_iterator(others.end()));
  return ips;
}

absl::StatusOr<CniError> ParseCniError(std::string_view text) {
  ASSIGN_OR_RETURN(const base::Json object, base::ParseJson(text));
  ASSIGN_OR_RETURN(const int64_t code, base::JsonInt(object, "code"));
  ASSIGN_OR_RETURN(const std::string message, base::JsonString(object, "msg"));
  ASSIGN_OR_RETURN(const std::string details, base::JsonString(object, "details"));
  if (code <= 0 || code > INT32_MAX) {
    return absl::InvalidArgumentError(base::StrCat("error code ", code));
  }
  CniError error = {.code = static_cast<int>(code), .text = message};
  if (!details.empty()) {
    error.text += base::StrCat(error.text.empty() ? "" : ": ", details);
  }
  if (error.text.empty()) {
    error.text = base::StrCat("error code ", code);
  }
  return error;
}

}  // namespace network
