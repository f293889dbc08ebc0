#include "base/json_log.h"

#include <gtest/gtest.h>

namespace base {
namespace {

TEST(LastLogErrorTest, IsTheLastLineOfLevelError) {
  EXPECT_EQ(LastLogError(R"({"level":"error","msg":"first","time":"t"}
not json
{"level":"error","msg":"second","time":"t"}
{"level":"warning","msg":"third","time":"t"}
)"),
            "second");
  EXPECT_EQ(LastLogError(R"({"level":"fatal","msg":"cut off at the e)"), "");
  EXPECT_EQ(LastLogError("{\"msg\":5,\"level\":\"error\"}\n[]\n"), "");
  EXPECT_EQ(LastLogError(""), "");
}

TEST(LastLogErrorTest, LinesThatAreNotEndedCountAndSpacesAtTheEndDoNot) {
  EXPECT_EQ(LastLogError(R"({"level":"error","msg":"one"}{"level":"error","msg":"two \n"})"),
            "two");
}

}  // namespace
}  // namespace base
