#include "imageservice/reference.h"

#include <string>

#include "gtest/gtest.h"

namespace imageservice {
namespace {

const std::string kHex(64, 'a');
const std::string kDigest = "sha256:" + kHex;

std::string Normal(const std::string& text) {
  const absl::StatusOr<Reference> reference = Reference::Parse(text);
  return reference.ok() ? reference->str() : "invalid";
}

TEST(ReferenceTest, ShortNamesBelongToDockerHub) {
  EXPECT_EQ(Normal("busybox"), "docker.io/library/busybox:latest");
  EXPECT_EQ(Normal("user/app:1"), "docker.io/user/app:1");
  EXPECT_EQ(Normal("index.docker.io/busybox"), "docker.io/library/busybox:latest");
  EXPECT_EQ(Normal("docker.io/busybox:1.36"), "docker.io/library/busybox:1.36");
}

TEST(ReferenceTest, AFirstPartWithDotColonOrCapitalIsARegistry) {
  EXPECT_EQ(Normal("localhost/x"), "localhost/x:latest");
  EXPECT_EQ(Normal("host:5000/a"), "host:5000/a:latest");
  EXPECT_EQ(Normal("quay.io/a/b/c:v1"), "quay.io/a/b/c:v1");
  EXPECT_EQ(Normal("HOST/a"), "HOST/a:latest");
  EXPECT_EQ(Normal("[::1]:5000/a:t"), "[::1]:5000/a:t");
  EXPECT_EQ(Normal("[2001:db8::1]/a"), "[2001:db8::1]/a:latest");
  EXPECT_EQ(Normal("[::ffff:10.0.0.1]:443/a@" + kDigest), "[::ffff:10.0.0.1]:443/a@" + kDigest);
  EXPECT_EQ(Normal("10.0.0.1/a:t"), "10.0.0.1/a:t");
}

TEST(ReferenceTest, TheDigestDecidesAndTheTagIsKeptAside) {
  const absl::StatusOr<Reference> both = Reference::Parse("busybox:1.36@" + kDigest);
  ASSERT_TRUE(both.ok()) << both.status();
  EXPECT_EQ(both->str(), "docker.io/library/busybox@" + kDigest);
  EXPECT_EQ(both->tag(), "1.36");
  EXPECT_EQ(both->selector(), kDigest);
  EXPECT_EQ(Normal("busybox@" + kDigest), "docker.io/library/busybox@" + kDigest);
  EXPECT_EQ(Normal("busybox@sha512:" + std::string(128, '0')),
            "docker.io/library/busybox@sha512:" + std::string(128, '0'));
}

TEST(ReferenceTest, MalformedNamesAreRefused) {
  for (const std::string& text : {std::string(),
                                  std::string("Busybox"),
                                  std::string("a//b"),
                                  std::string("/a"),
                                  std::string("a/"),
                                  std::string("a:"),
                                  std::string("a:-x"),
                                  std::string("a@"),
                                  std::string("a@sha256:abc"),
                                  "a@sha256:" + std::string(64, 'A'),
                                  "a@md5:" + std::string(32, 'a'),
                                  std::string("a..b"),
                                  std::string("a___b"),
                                  std::string("a._b"),
                                  std::string("-a"),
                                  std::string("a-"),
                                  std::string("quay.io/../etc"),
                                  std::string("quay.io/a b"),
                                  std::string("quay.io:port/a"),
                                  std::string("quay.io:/a"),
                                  std::string("-x.io/a"),
                                  std::string("x..io/a"),
                                  std::string("[::1/a"),
                                  std::string("[zz]/a"),
                                  std::string("[1:2]/a"),
                                  std::string("[:::1]/a"),
                                  std::string("[127.0.0.1]/a"),
                                  std::string("[::1]x/a"),
                                  std::string("[::1]:/a"),
                                  std::string("quay.io:65536/a"),
                                  std::string("quay.io:99999999999999999999/a"),
                                  std::string("a:b:c"),
                                  std::string("a\nb"),
                                  std::string("http://quay.io/a"),
                                  std::string("quay.io/"),
                                  std::string(2000, 'a'),
                                  std::string("a:") + std::string(129, 't'),
                                  std::string("a\0b", 3)}) {
    EXPECT_EQ(Normal(text), "invalid") << text;
  }
}

TEST(ReferenceTest, SeparatorsInsideComponentsAreTheGrammars) {
  for (const std::string text : {"a.b", "a_b", "a__b", "a-b", "a---b", "0a/b1/c.d_e"}) {
    EXPECT_NE(Normal(text), "invalid") << text;
  }
}

TEST(ReferenceTest, ThePathHasALimit) {
  EXPECT_EQ(Normal("x.io/" + std::string(255, 'a')), "x.io/" + std::string(255, 'a') + ":latest");
  EXPECT_EQ(Normal("x.io/" + std::string(256, 'a')), "invalid");
  EXPECT_EQ(Normal(std::string(255, 'a')), "invalid");  // "library/" counts.
}

TEST(ReferenceTest, SixtyFourHexadecimalDigitsAreAnId) {
  EXPECT_EQ(Normal(kHex), "invalid");
  EXPECT_EQ(ImageIdOf(kHex), kHex);
  EXPECT_EQ(ImageIdOf(kDigest), kHex);
  EXPECT_EQ(ImageIdOf("sha256:abc"), "");
  EXPECT_EQ(ImageIdOf("busybox"), "");
  EXPECT_TRUE(IsIdPrefix("abc123"));
  EXPECT_FALSE(IsIdPrefix("busybox"));
  EXPECT_FALSE(IsIdPrefix(""));
}

TEST(ReferenceTest, ShortNamesAreThoseWithoutARegistry) {
  EXPECT_TRUE(IsShortName("busybox"));
  EXPECT_TRUE(IsShortName("busybox:1.36"));
  EXPECT_TRUE(IsShortName("user/app@" + kDigest));
  EXPECT_FALSE(IsShortName("docker.io/library/busybox"));
  EXPECT_FALSE(IsShortName("localhost/app"));
  EXPECT_FALSE(IsShortName("host:5000/app"));
}

}  // namespace
}  // namespace imageservice
