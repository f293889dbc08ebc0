#include "imageservice/testing/fake_image.h"

#include "base/sha.h"
#include "base/strings.h"

namespace imageservice::testing {

FakeImage MakeFakeImage(const std::string& letters) {
  FakeImage image;
  std::string list;
  for (const char letter : letters) {
    const std::string diff_id(64, letter);
    image.diff_ids.push_back(diff_id);
    image.chain_ids.push_back(image.chain_ids.empty()
                                  ? diff_id
                                  : base::Sha256Hex(base::StrCat("sha256:", image.chain_ids.back(),
                                                                 " sha256:", diff_id)));
    list += base::StrCat(list.empty() ? "" : ",", "\"sha256:", diff_id, "\"");
  }
  image.config = base::StrCat(R"({"config":{"User":"1002:1","Cmd":["/bin/sh"]},"rootfs":)",
                              R"({"type":"layers","diff_ids":[)", list, "]}}");
  image.id = base::Sha256Hex(image.config);
  image.manifest = base::StrCat(R"({"config":{"digest":"sha256:)", image.id, R"("}})");
  image.manifest_digest = base::StrCat("sha256:", base::Sha256Hex(image.manifest));
  image.index = base::StrCat(R"({"manifests":[{"digest":")", image.manifest_digest, R"("}]})");
  image.index_digest = base::StrCat("sha256:", base::Sha256Hex(image.index));
  return image;
}

}  // namespace imageservice::testing
