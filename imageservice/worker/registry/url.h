// URLs: where they lead, and how to print them without secrets.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace imageservice::worker {

// Scheme, host and port as one text, for comparing; INVALID_ARGUMENT for anything but http and
// https.
absl::StatusOr<std::string> UrlOrigin(const std::string& url);

// Where `location` leads when `base` answered it; a user name and password in it are dropped.
absl::StatusOr<std::string> ResolveUrl(const std::string& base, const std::string& location);

// The URL without user, query and fragment, where secrets may be: for messages.
std::string PrintableUrl(std::string_view url);

// Percent-encodes what may not stand in a query.
std::string QueryEscape(std::string_view text);

}  // namespace imageservice::worker
