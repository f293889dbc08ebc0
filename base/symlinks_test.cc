#include "base/symlinks.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

namespace base {
namespace {

// What `path` resolves to with these symlinks; the error's text otherwise.
std::string Resolve(const std::string& path, const std::map<std::string, std::string>& symlinks) {
  const auto real =
      ResolveSymlinks(path, [&](const std::string& at) -> absl::StatusOr<std::string> {
        const auto found = symlinks.find(at);
        return found == symlinks.end() ? "" : found->second;
      });
  return real.ok() ? *real : std::string(real.status().message());
}

TEST(SymlinksTest, FollowsTargetsWithinTheRoot) {
  EXPECT_EQ(Resolve("a/b", {}), "a/b");
  EXPECT_EQ(Resolve(".", {}), ".");
  EXPECT_EQ(Resolve("lib/x", {{"lib", "usr/lib"}}), "usr/lib/x");
  EXPECT_EQ(Resolve("a/lib/x", {{"a/lib", "/usr/./lib//"}}), "usr/lib/x");
  EXPECT_EQ(Resolve("a/b/c/x", {{"a/b/c", "../d"}}), "a/d/x");
  EXPECT_EQ(Resolve("a/x", {{"a", "b"}, {"b", "c/d"}, {"c", "e"}}), "e/d/x");
}

TEST(SymlinksTest, NeverLeavesTheRoot) {
  EXPECT_EQ(Resolve("a/x", {{"a", "../../../etc"}}), "etc/x");
  EXPECT_EQ(Resolve("a", {{"a", "/"}}), ".");
  EXPECT_EQ(Resolve("a/b", {{"a", ".."}}), "b");
}

TEST(SymlinksTest, EndsInCirclesAndInDepths) {
  EXPECT_EQ(Resolve("a/x", {{"a", "a"}}), "the path has too many symlinks");
  EXPECT_EQ(Resolve("a", {{"a", "b"}, {"b", "/a/x"}}), "the path has too many symlinks");
  std::string deep;
  for (int i = 0; i < 300; ++i) deep += "d/";
  EXPECT_EQ(Resolve("a", {{"a", deep}}), "the path is too long without its symlinks");
  EXPECT_EQ(Resolve("a", {{"a", std::string(4096, 'n')}}),
            "the path is too long without its symlinks");
}

TEST(SymlinksTest, AnErrorOfTheReaderEndsTheWalk) {
  const auto real = ResolveSymlinks("a/b", [](const std::string& at) {
    return at == "a" ? absl::StatusOr<std::string>("") : absl::DataLossError(at);
  });
  EXPECT_EQ(real.status(), absl::DataLossError("a/b"));
}

}  // namespace
}  // namespace base
