//! What the controller must be allowed to do for data planes: the one table against which roles are tested. What it may not do although its
//! role allows it stands in the chart's admission policies.

use portcullis_cluster::{Place, Right};

use super::kind::Kind;

/// Objects are found (list), read before they are touched for the first time (get), applied (create and patch), and deleted.
const VERBS: &[&str] = &["create", "delete", "get", "list", "patch"];

/// Every right beyond those of reading a cluster ([`portcullis_cluster::rights`]), in the order of the kinds. Where the controller serves only
/// listed namespaces they are needed there alone.
pub const RIGHTS: &[Right] = &{
    let mut rights =
        [Right { group: "", resource: "", verbs: VERBS, place: Place::Namespaces, owned: false }; Kind::ALL.len()];
    let mut index = 0;
    while index < Kind::ALL.len() {
        rights[index].group = Kind::ALL[index].group();
        rights[index].resource = Kind::ALL[index].resource();
        index += 1;
    }
    rights
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_rights() {
        assert_eq!(RIGHTS.len(), Kind::ALL.len());
        for (kind, right) in Kind::ALL.iter().zip(RIGHTS) {
            assert_eq!((right.group, right.resource), (kind.group(), kind.resource()));
        }
    }
}
