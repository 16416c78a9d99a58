import threading

from scenax.data.reports import Report, UnreadableError


def test_a_report_counts_places_once_and_names_the_first():
    report = Report()
    assert not report
    assert str(report) == ""
    assert report.places == {}
    for number in (7, 3, 5, 3, 1, 2, 6, 4):
        report.add("empty file", f"{number}.jpg")
    report.add("a box outside", "9.jpg")
    report.add("a box outside", "9.jpg")
    assert report
    assert report.places == {
        "a box outside": ["9.jpg"],
        "empty file": [f"{number}.jpg" for number in range(1, 8)],
    }
    assert str(report) == (
        "a box outside: 1 (9.jpg)\nempty file: 7 (1.jpg, 2.jpg, 3.jpg, 4.jpg, 5.jpg, ...)"
    )


def test_exactly_five_are_all_named():
    report = Report()
    for number in range(5):
        report.add("empty file", str(number))
    assert str(report) == "empty file: 5 (0, 1, 2, 3, 4)"


def test_one_file_is_one_place_whatever_address_its_reader_had():
    report = Report()
    for address in ("0x7f88a79934c0", "0x7f88a7993900"):
        report.add("unreadable", f"1.png: cannot identify <_io.BytesIO object at {address}>.")
    assert report.places == {"unreadable": ["1.png: cannot identify <_io.BytesIO object>."]}


def test_what_is_read_from_a_report_is_a_copy():
    report = Report()
    report.add("empty file", "1.jpg")
    report.places["empty file"].append("2.jpg")
    report.places["other"] = []
    assert report.places == {"empty file": ["1.jpg"]}


def test_many_threads_may_add_and_read_at_once():
    report, start, failures = Report(), threading.Barrier(9), []

    def add(thread):
        start.wait()
        for number in range(300):
            report.add(f"kind {number % 50} of {thread}", str(number))
            report.add("of all", str(number))

    def read():
        start.wait()
        try:
            for _ in range(300):
                str(report)
        except RuntimeError as error:  # "dictionary changed size during iteration"
            failures.append(error)

    threads = [threading.Thread(target=add, args=(n,)) for n in range(8)]
    threads.append(threading.Thread(target=read))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(report.places["of all"]) == 300
    assert sum(map(len, report.places.values())) == 300 + 8 * 300


def test_what_cannot_be_read_is_a_wrong_value():
    assert issubclass(UnreadableError, ValueError)
