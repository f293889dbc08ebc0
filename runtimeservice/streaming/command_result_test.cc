#include "runtimeservice/streaming/command_result.h"

#include <gtest/gtest.h>

namespace streaming {
namespace {

TEST(CommandResultTest, SuccessIsSaidInOneMember) {
  EXPECT_EQ(StatusDocument({}), R"({"status":"Success"})");
  EXPECT_EQ(StatusText({}), "");
}

TEST(CommandResultTest, AnExitCodeIsACause) {
  EXPECT_EQ(
      StatusDocument({.exit_code = 3}),
      R"({"status":"Failure","message":"command terminated with exit code 3",)"
      R"("reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"3"}]}})");
  EXPECT_EQ(StatusText({.exit_code = 137, .remark = "its container ended"}),
            "command terminated with exit code 137: its container ended");
}

TEST(CommandResultTest, AnErrorIsInternalAndQuoted) {
  EXPECT_EQ(StatusDocument({.status = absl::UnknownError("no \"sh\"")}),
            R"({"status":"Failure","message":"no \"sh\"","reason":"InternalError","code":500})");
}

}  // namespace
}  // namespace streaming
