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
fn other_names_gaps_and_quotes_are_read() {
    let t =
        csv::read("buffer,start,end,size,gaps,offset\n\"a,\"\"b\",0,9,4,2-3 5-6,77\nc,3,3,4,,0\n").expect("a table");
    assert_eq!(t.problem.buffers[0].live, [0..2, 4..5, 7..10]);
    assert_eq!(t.problem.buffers[1].live.as_slice(), std::slice::from_ref(&(3..4)));
    let s = solved(&t.problem);
    assert_eq!(s.peak, 4);
    assert_eq!(
        csv::write(&t, &s),
        "id,lower,upper,size,gaps,offset\n\"a,\"\"b\",0,10,4,2-4 5-7,0\nc,3,4,4,,0\n"
    );
}

#[test]
fn faults_are_named() {
    let cases = [
        ("", "line 1: no header row; it names the columns id,lower,upper,size"),
        ("id,lower,size\n", "line 1: no column `upper` in the header row"),
        ("id,lower,upper,size,id\n", "line 1: two columns are called `id`"),
        ("id,lower,start,upper,size\n", "line 1: two columns are called `lower`"),
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
        (
            "id,lower,upper,size\nx,0,1,1\nx,0,1,1\n",
            "line 3: buffer `x` is also on line 2",
        ),
        (
            "id,lower,upper,size\nx,0,1,9223372036854775807\n",
            "line 2: buffer `x`: the sizes add up to 2^62 bytes or more",
        ),
        (
            "id,lower,upper,size,alignment\nx,0,1,1,48\n",
            "line 2: buffer `x`: alignment 48 is not a power of two",
        ),
        (
            "id,lower,upper,size,gaps\nx,0,9,1,5-3\n",
            "line 2: buffer `x`: gaps are pairs such as `3-5 8-9`, ascending; windows are not supported",
        ),
    ];
    for (text, want) in cases {
        let faults = csv::read(text).expect_err("not a table");
        assert_eq!(faults[0].to_string(), want, "{text:?}");
        assert!(text.get(faults[0].span.clone()).is_some());
    }
}

#[test]
fn all_faults_are_named_at_once() {
    let faults = csv::read("id,lower,upper,size\nx,a,2,b\ny,3,1,1\nz,1\n").expect_err("not a table");
    let lines: Vec<usize> = faults.iter().map(|f| f.line).collect();
    assert_eq!(lines, [2, 2, 3, 4]);
    let flood = "-,-,-,-\n".repeat(1000);
    let faults = csv::read(&format!("id,lower,upper,size\n{flood}")).expect_err("not a table");
    assert_eq!(faults.len(), 100);
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
