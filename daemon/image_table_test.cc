#include "daemon/image_table.h"

#include <gtest/gtest.h>

#include "base/json.h"

namespace crispd {
namespace {

cri::ListImagesResponse Images() {
  cri::ListImagesResponse images;
  cri::Image* unnamed = images.add_images();
  unnamed->set_id(std::string(64, 'b'));
  unnamed->set_size(999);
  cri::Image* web = images.add_images();
  web->set_id(std::string(64, 'a'));
  web->set_size(4'260'000);
  web->add_repo_tags("registry.lan:5000/app/web:2");
  web->add_repo_tags("registry.lan:5000/app/web:1");
  web->add_repo_digests("registry.lan:5000/app/web@sha256:cc");
  web->mutable_uid()->set_value(1000);
  cri::Image* digest = images.add_images();
  digest->set_id(std::string(64, 'd'));
  digest->set_size(12'345'678'901);
  digest->add_repo_digests("quay.io/app/db@sha256:ee");
  return images;
}

TEST(ImageTableTest, HasARowForEachTagAndEachImageWithoutOne) {
  EXPECT_EQ(ImageTable(Images(), Digests::kHide),
            "IMAGE                       TAG      IMAGE ID        SIZE\n"
            "quay.io/app/db              <none>   ddddddddddddd   12.3GB\n"
            "registry.lan:5000/app/web   1        aaaaaaaaaaaaa   4.26MB\n"
            "registry.lan:5000/app/web   2        aaaaaaaaaaaaa   4.26MB\n"
            "<none>                      <none>   bbbbbbbbbbbbb   999B\n");
}

TEST(ImageTableTest, ShowsDigestsWhenAsked) {
  const std::string table = ImageTable(Images(), Digests::kShow);
  EXPECT_NE(table.find("registry.lan:5000/app/web   1        sha256:cc   aaaaaaaaaaaaa"),
            std::string::npos)
      << table;
}

TEST(ImageTableTest, JsonIsTheWholeAnswer) {
  const absl::StatusOr<base::Json> json = base::ParseJson(ImagesJson(Images()));
  ASSERT_TRUE(json.ok()) << json.status();
  const base::Json& web = (*json)["images"][1];
  EXPECT_EQ(web["id"], std::string(64, 'a'));
  EXPECT_EQ(web["repoTags"].size(), 2u);
  EXPECT_EQ(web["size"], 4'260'000);
  EXPECT_EQ(web["uid"], 1000);
  EXPECT_EQ(web["pinned"], false);
}

TEST(ImageTableTest, IdsAreWhole) {
  EXPECT_EQ(ImageIds(Images()).substr(0, 65), std::string(64, 'b') + "\n");
}

}  // namespace
}  // namespace crispd
