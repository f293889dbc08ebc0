#include "imageservice/pinned_images.h"

#include <gtest/gtest.h>

namespace imageservice {
namespace {

TEST(PinnedImagesTest, AnExactNameMatchesItselfOnly) {
  EXPECT_TRUE(MatchesGlob("quay.io/a:1", "quay.io/a:1"));
  EXPECT_FALSE(MatchesGlob("quay.io/a:1", "quay.io/a:10"));
  EXPECT_FALSE(MatchesGlob("quay.io/a:1", "xquay.io/a:1"));
  EXPECT_FALSE(MatchesGlob("quay.io/a", "quay.io/a:1"));
  EXPECT_FALSE(MatchesGlob("quayxio/a:1", "quay.io/a:1")) << "a dot is a dot";
  EXPECT_FALSE(MatchesGlob("quay.io/a.1", "quay.io/a:1"));
  EXPECT_FALSE(MatchesGlob("", "quay.io/a:1"));
  EXPECT_TRUE(MatchesGlob("", ""));
}

TEST(PinnedImagesTest, AStarStandsForAnyText) {
  EXPECT_TRUE(MatchesGlob("quay.io/app/*", "quay.io/app/web/x:1"));
  EXPECT_TRUE(MatchesGlob("quay.io/app*", "quay.io/app"));
  EXPECT_FALSE(MatchesGlob("quay.io/app/*", "quay.io/other"));
  EXPECT_TRUE(MatchesGlob("*pause*", "registry.k8s.io/pause:3.10"));
  EXPECT_TRUE(MatchesGlob("*pause*", "pause"));
  EXPECT_FALSE(MatchesGlob("*pause*", "registry.k8s.io/paus"));
  EXPECT_TRUE(MatchesGlob("*/pause:*", "registry.k8s.io/pause:3.10"));
  EXPECT_TRUE(MatchesGlob("*", ""));
  EXPECT_TRUE(MatchesGlob("**", "x"));
  EXPECT_FALSE(MatchesGlob("a*", ""));
}

TEST(PinnedImagesTest, StarsAreTriedAtEveryPlace) {
  EXPECT_TRUE(MatchesGlob("a*b*c", "aabbabcc"));
  EXPECT_TRUE(MatchesGlob("*ab", "aaab"));
  EXPECT_TRUE(MatchesGlob("*aab*ab", "aaabaaab"));
  EXPECT_FALSE(MatchesGlob("*aab*ab",
                           "aaabab"
                           "x"));
  EXPECT_FALSE(MatchesGlob("a*b*c", "aabbabx"));
}

// A pattern of many stars is no way to keep the daemon busy.
TEST(PinnedImagesTest, ManyStarsTakeNoExponentialTime) {
  std::string pattern;
  for (int i = 0; i < 200; ++i) {
    pattern += "*a";
  }
  EXPECT_FALSE(MatchesGlob(pattern + "b", std::string(4000, 'a')));
}

TEST(PinnedImagesTest, AnyPatternForAnyNameWillDo) {
  EXPECT_TRUE(IsPinned({"x", "*web*"}, {"quay.io/db:1", "quay.io/web@sha256:0"}));
  EXPECT_FALSE(IsPinned({"x", "*web*"}, {"quay.io/db:1"}));
  EXPECT_FALSE(IsPinned({}, {"quay.io/db:1"}));
  EXPECT_FALSE(IsPinned({"*"}, {})) << "an image without names has none to match";
}

}  // namespace
}  // namespace imageservice
