// What a value of the configuration must be besides its type: the checks that the tables of keys
// name. Each returns INVALID_ARGUMENT with what is wanted and what was given. Pure.
#pragma once

#include <cstdint>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace crispd {

absl::Status CheckPath(std::string_view text);
absl::Status CheckOptionalPath(std::string_view text);
absl::Status CheckSocket(std::string_view text);
absl::Status CheckCgroup(std::string_view text);
absl::Status CheckOptionalCgroup(std::string_view text);
absl::Status CheckLogLevel(std::string_view text);
absl::Status CheckCgroupManager(std::string_view text);
absl::Status CheckAssignment(std::string_view text);
absl::Status CheckCapability(std::string_view text);
absl::Status CheckSysctl(std::string_view text);
absl::Status CheckUlimit(std::string_view text);
absl::Status CheckDevice(std::string_view text);
absl::Status CheckRuntimeType(std::string_view text);
absl::Status CheckRuntimeArgument(std::string_view text);
absl::Status CheckByteSize(std::string_view text);
absl::Status CheckRegistry(std::string_view text);
absl::Status CheckShortNameMode(std::string_view text);
absl::Status CheckImageVolumes(std::string_view text);
absl::Status CheckIpPreference(std::string_view text);
absl::Status CheckTimezone(std::string_view text);
absl::Status CheckNotEmpty(std::string_view text);
absl::Status CheckMessageSize(int64_t number);
absl::Status CheckPositive(int64_t number);
absl::Status CheckSmallCount(int64_t number);
absl::Status CheckNotNegative(int64_t number);
absl::Status CheckPidsLimit(int64_t number);
absl::Status CheckIpAddress(std::string_view text);
absl::Status CheckPort(int64_t number);
absl::Status CheckTlsVersion(std::string_view text);
absl::Status CheckCipherSuite(std::string_view text);
absl::Status CheckSeconds(int64_t number);      // From 0 to ten years.
absl::Status CheckSomeSeconds(int64_t number);  // From 1 to a day.
absl::Status CheckStreamCount(int64_t number);
absl::Status CheckFrameSize(int64_t number);
absl::Status CheckHeaderSize(int64_t number);

// "12MiB", "500KB" or "4096" in bytes, 0 for an empty text; INVALID_ARGUMENT for others.
absl::StatusOr<int64_t> ParseByteSize(std::string_view text);

}  // namespace crispd
