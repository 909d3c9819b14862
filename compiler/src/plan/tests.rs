//! Smoke.
use super::*;
#[test]
fn nothing_and_one() {
    let s = solve(&Problem::default()).unwrap();
    assert_eq!((s.peak, s.status), (0, Status::Optimal));
    let p = Problem {
        buffers: vec![Buffer::new("a", 100, 64, 0..3)],
        aliases: vec![],
    };
    let s = solve(&p).unwrap();
    assert_eq!((s.peak, s.lower_bound, s.naive), (128, 128, 128));
    assert_eq!(verify(&p, &s), []);
}
