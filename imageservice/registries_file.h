// Reads one registries.conf file; the rules of the merged whole are in registries_config.h.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "imageservice/registries_config.h"

namespace imageservice {

// Merges the text of one file over `data`: scalar settings and [[registry]] tables of the same
// prefix are replaced as a whole, aliases one by one. Keys that mean nothing become warnings.
// INVALID_ARGUMENT, beginning with "NAME:LINE: ", for what makes no sense; `data` is then half
// merged and of no use.
absl::Status ReadRegistriesFile(std::string_view text, const std::string& name,
                                RegistriesData* data);

// The same of a file whose [aliases] alone count; anything else in it is an error.
absl::Status ReadAliasFile(std::string_view text, const std::string& name, RegistriesData* data);

}  // namespace imageservice
