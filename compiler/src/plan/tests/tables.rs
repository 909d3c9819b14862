//! Tables of buffers: what is read, what is refused, and that nothing panics.

use super::*;

#[test]
fn columns_may_stand_in_any_order() {
    let a = csv::read("id,lower,upper,size\nx,0,3,4\ny,2,9,8\n").expect("a table");
    let b = csv::read("\u{feff} size , note,upper,id,lower\r\n4,hi,3,x,0\r\n\r\n8,,9,y,2").expect("a table");
    assert_eq!(a.problem, b.problem);
    let s = solved(&a.problem);
    assert_eq!(csv::write(&a, &s), "id,lower,upper,size,offset\nx,0,3,4,8\ny,2,9,8,0\n");
}

#[test]
fn alignment_is_kept() {
    let t = csv::read("id,lower,upper,size,alignment\nx,0,3,4,64\n").expect("a table");
    assert_eq!(t.problem.buffers[0].align, 64);
    assert_eq!(
        csv::write(&t, &solved(&t.problem)),
        "id,lower,upper,size,alignment,offset\nx,0,3,4,64,0\n"
    );
}

#[test]
fn faults_are_named() {
    let cases = [
        ("", "line 1: no header row; it names the columns id,lower,upper,size"),
        ("id,lower,size\n", "line 1: no column `upper` in the header row"),
        ("id,lower,upper,size,id\n", "line 1: two columns are called `id`"),
        (
            "id,lower,upper,size\nx,1,2\n",
            "line 2: 3 fields where the header row has 4",
        ),
        (
            "id,lower,upper,size\n\nx,1,2,-3\n",
            "line 3: size `-3` is not a number from 0 to 2^64-1",
        ),
        (
            "id,lower,upper,size\nx,3,2,1\n",
            "line 2: buffer `x`: upper 2 is below lower 3",
        ),
    ];
    for (text, want) in cases {
        assert_eq!(
            csv::read(text).map_err(|e| e.to_string()),
            Err(want.to_owned()),
            "{text:?}"
        );
    }
}

#[test]
fn the_ends_of_the_number_line_are_answers_or_errors() {
    let solve_text = |rows: &str| {
        let table = csv::read(&format!("id,lower,upper,size\n{rows}")).expect("a table");
        solve_with(
            &table.problem,
            &Options {
                nodes: 1000,
                capacity: Some(1),
            },
        )
        .map(|s| (s.peak, s.status))
    };
    assert_eq!(solve_text(""), Ok((0, Status::Optimal)));
    assert_eq!(solve_text("x,0,1,0\ny,5,5,9"), Ok((0, Status::Optimal)));
    assert_eq!(solve_text("x,0,18446744073709551615,9"), Ok((9, Status::Infeasible)));
    assert!(matches!(
        solve_text("x,0,1,9223372036854775807"),
        Err(PlanError::TooLarge { .. })
    ));
    assert!(matches!(solve_text("x,0,1,1\nx,0,1,1"), Err(PlanError::DuplicateId(_))));
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "[a-z0-9,\\-\\n\\r \u{e4}]{0,80}", header in any::<bool>()) {
        let text = if header { format!("id,lower,upper,size\n{text}") } else { text };
        if let Ok(table) = csv::read(&text) {
            let _ = solve(&table.problem);
        }
    }
}
