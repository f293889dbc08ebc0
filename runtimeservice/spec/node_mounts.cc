#include "runtimeservice/spec/node_mounts.h"

#include <strings.h>

#include <algorithm>
#include <utility>

#include "base/status_macros.h"
#include "base/strings.h"
#include "runtimeservice/spec/spec_parts.h"

namespace runtimeservice {
namespace {

constexpr char kLocaltime[] = "/etc/localtime";
constexpr char kZones[] = "/usr/share/zoneinfo/";

std::string_view Trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\r");
  const size_t end = text.find_last_not_of(" \t\r");
  return begin == std::string_view::npos ? "" : text.substr(begin, end + 1 - begin);
}

absl::StatusOr<ExtraMount> ParseMountsLine(std::string_view line) {
  const size_t colon = line.find(':');
  const std::string_view source = Trimmed(line.substr(0, colon));
  const std::string_view destination =
      colon == std::string_view::npos ? source : Trimmed(line.substr(colon + 1));
  if (source.substr(0, 1) != "/" || destination.substr(0, 1) != "/" ||
      destination.find(':') != std::string_view::npos) {
    return absl::InvalidArgumentError(
        base::StrCat("\"", line, "\" is not SOURCE:DESTINATION, both absolute"));
  }
  ASSIGN_OR_RETURN(std::string path, ContainerPath(destination));
  return ExtraMount{.destination = std::move(path), .source = std::string(source)};
}

}  // namespace

absl::StatusOr<std::vector<ExtraMount>> ParseMountsFile(std::string_view text) {
  std::vector<ExtraMount> mounts;
  for (int number = 1; !text.empty(); ++number) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = Trimmed(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.empty() || line.front() == '#') {
      continue;
    }
    absl::StatusOr<ExtraMount> mount = ParseMountsLine(line);
    if (!mount.ok()) {
      return absl::Status(mount.status().code(),
                          base::StrCat(number, ": ", base::ToStd(mount.status().message())));
    }
    mounts.push_back(*std::move(mount));
  }
  return mounts;
}

absl::Status CheckTimezone(std::string_view name) {
  const bool plain = std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("/_+-").find(c) != std::string_view::npos;
  });
  return plain && name.substr(0, 1) != "/"
             ? absl::OkStatus()
             : absl::InvalidArgumentError(
                   base::StrCat("\"", name, "\" is neither \"Local\" nor the name of a time zone"));
}

absl::StatusOr<std::vector<ExtraMount>> ResolveNodeMounts(const NodeMounts& mounts) {
  std::vector<ExtraMount> found;
  for (const ExtraMount& mount : mounts.defaults) {
    absl::StatusOr<std::string> source = RealPath(mount.source);
    if (absl::IsNotFound(source.status())) {
      continue;
    }
    RETURN_IF_ERROR(base::Annotate(source.status(), "default_mounts_file"));
    found.push_back(mount);
    found.back().source = *std::move(source);
  }
  if (mounts.timezone.empty()) {
    return found;
  }
  const bool local = strcasecmp(mounts.timezone.c_str(), "local") == 0;
  absl::StatusOr<std::string> zone = RealPath(local ? kLocaltime : kZones + mounts.timezone);
  if (zone.ok()) {
    found.push_back({.destination = kLocaltime, .source = *std::move(zone)});
  } else if (!local) {
    return absl::FailedPreconditionError(
        base::StrCat("timezone: ", base::ToStd(zone.status().message())));
  }
  return found;
}

}  // namespace runtimeservice
