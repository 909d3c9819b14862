//! What this machine's tiers are called; the other tests take them all.

use ck_kernels::isa::{best, by_name, supported};

#[test]
fn the_best_tier_comes_first() {
    let names: Vec<&str> = supported().map(|isa| isa.name).collect();
    println!("tiers: {}", names.join(", "));
    assert_eq!(names.first(), Some(&best().name));
    assert!(
        names
            .iter()
            .all(|name| by_name(name).is_ok_and(|isa| isa.name == *name))
    );
}
