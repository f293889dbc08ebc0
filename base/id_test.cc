#include "base/id.h"

#include "gtest/gtest.h"

namespace base {
namespace {

TEST(IdTest, RandomIdsParseAndDiffer) {
  const PodId one = PodId::Random();
  EXPECT_NE(one, PodId::Random());
  ASSERT_TRUE(PodId::Parse(one.str()).ok());
  EXPECT_EQ(*PodId::Parse(one.str()), one);
}

TEST(IdTest, NothingThatClimbsOutParses) {
  for (const std::string& text :
       {std::string(), std::string(63, 'a'), std::string(65, 'a'), std::string(64, 'A'),
        "../" + std::string(61, 'a'), std::string(63, 'a') + "/"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ContainerId::Parse(text).status())) << text;
  }
}

}  // namespace
}  // namespace base
