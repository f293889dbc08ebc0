#include "runtimeservice/streaming/tokens.h"

#include <set>

#include "gmock/gmock.h"

namespace streaming {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

stream::Session Exec(std::string id = "c1") {
  stream::Session session;
  session.mutable_exec()->set_container_id(std::move(id));
  return session;
}

std::string TokenOf(const std::string& path) { return path.substr(path.rfind('/') + 1); }

TEST(TokensTest, ATokenIsGoodOnceAndForItsKind) {
  Tokens tokens(10, absl::Minutes(1));
  const std::string path = tokens.Add(Exec()).value();
  EXPECT_THAT(path, StartsWith("/exec/"));
  const std::string token = TokenOf(path);
  EXPECT_EQ(token.size(), 32u);
  EXPECT_TRUE(absl::IsNotFound(tokens.Redeem("attach", token).status()));
  EXPECT_TRUE(absl::IsNotFound(tokens.Redeem("exec", token.substr(1)).status()));
  EXPECT_TRUE(absl::IsNotFound(tokens.Redeem("exec", "").status()));
  const auto session = tokens.Redeem("exec", token);
  ASSERT_TRUE(session.ok()) << session.status();
  EXPECT_EQ(session->exec().container_id(), "c1");
  EXPECT_TRUE(absl::IsNotFound(tokens.Redeem("exec", token).status()));
  EXPECT_EQ(tokens.size(), 0u);
}

TEST(TokensTest, EachKindHasItsPath) {
  Tokens tokens(10, absl::Minutes(1));
  stream::Session attach;
  attach.mutable_attach();
  EXPECT_THAT(tokens.Add(attach).value(), StartsWith("/attach/"));
  stream::Session forward;
  forward.mutable_port_forward();
  EXPECT_THAT(tokens.Add(forward).value(), StartsWith("/portforward/"));
  EXPECT_TRUE(absl::IsInvalidArgument(tokens.Add(stream::Session()).status()));
}

TEST(TokensTest, NoTokenComesTwice) {
  Tokens tokens(1000, absl::Minutes(1));
  std::set<std::string> seen;
  for (int i = 0; i < 1000; ++i) {
    seen.insert(tokens.Add(Exec()).value());
  }
  EXPECT_EQ(seen.size(), 1000u);
}

TEST(TokensTest, OneTooManyIsRefusedByTheSettingsName) {
  Tokens tokens(2, absl::Minutes(1));
  const std::string first = tokens.Add(Exec()).value();
  EXPECT_TRUE(tokens.Add(Exec()).ok());
  const absl::Status refused = tokens.Add(Exec()).status();
  EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("stream_max_urls"));
  EXPECT_TRUE(tokens.Redeem("exec", TokenOf(first)).ok());
  EXPECT_TRUE(tokens.Add(Exec()).ok());
}

TEST(TokensTest, LongSessionsAreRefusedBeforeMemoryRunsOut) {
  Tokens tokens(1000, absl::Minutes(1));
  const std::string long_id(Tokens::kMaxWaitingBytes / 4, 'x');
  absl::Status status;
  int added = 0;
  for (; added < 10 && status.ok(); ++added) {
    status = tokens.Add(Exec(long_id)).status();
  }
  EXPECT_EQ(added, 4);
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  tokens.Clear();
  EXPECT_TRUE(tokens.Add(Exec(long_id)).ok());
}

TEST(TokensTest, AnExpiredTokenIsGone) {
  Tokens tokens(1, absl::ZeroDuration());
  const std::string path = tokens.Add(Exec()).value();
  EXPECT_TRUE(absl::IsNotFound(tokens.Redeem("exec", TokenOf(path)).status()));
  EXPECT_EQ(tokens.size(), 0u);
  EXPECT_TRUE(tokens.Add(Exec()).ok());  // It counts no more.
}

TEST(TokensTest, KnowsWhenTheNextOneEnds) {
  Tokens tokens(10, absl::Minutes(1));
  EXPECT_EQ(tokens.NextEnd(), base::SteadyTime::InfiniteFuture());
  const std::string first = tokens.Add(Exec()).value();
  const base::SteadyTime first_end = tokens.NextEnd();
  EXPECT_GT(first_end, base::SteadyTime::Now());
  EXPECT_LE(first_end, base::SteadyTime::Now() + absl::Minutes(1));
  EXPECT_TRUE(tokens.Add(Exec()).ok());
  EXPECT_TRUE(tokens.Redeem("exec", TokenOf(first)).ok());
  EXPECT_GE(tokens.NextEnd(), first_end);
}

}  // namespace
}  // namespace streaming
