// The table of all architectures, and the small one of the library's own benchmarks.
(function (scenax) {
  'use strict';
  const { data, escape, number, difference, changeHtml } = scenax;

  const options = (values, chosen, all) => [['', all], ...values.map((value) => [value, value])]
    .map(([value, text]) => `<option value="${escape(value)}"${value === chosen ? ' selected' : ''}>${
      escape(text)}</option>`).join('');

  /** The form of filters, for every view that lists architectures. */
  function filters(params, extra = '', withFamily = true) {
    const several = (params.family || '').includes(',');
    const chosen = several ? `<option value="${escape(params.family)}" selected>several</option>` : '';
    return `<form class="filters" role="search">
      <label>Name <input type="search" name="q" value="${escape(params.q || '')}"
        placeholder="resnet 50" autocomplete="off"></label>
      ${withFamily ? `<label>Family <select name="family">${chosen}${
        options(data.families, params.family, 'all families')}</select></label>` : ''}
      <label>Task <select name="task">${options(data.tasks, params.task, 'all tasks')}</select></label>
      ${extra}</form>`;
  }

  const check = (name, text, on) =>
    `<label class="check"><input type="checkbox" name="${name}"${on ? ' checked' : ''}> ${text}</label>`;

  /** Lets a form's fields change the address; a checkbox is "1" or "0", or what checked() says. */
  function wire(form) {
    form.addEventListener('submit', (event) => event.preventDefault());
    form.addEventListener('input', ({ target }) => {
      const value = target.type === 'checkbox' ? (target.checked ? '1' : '0') : target.value;
      scenax.change({ [target.name]: value }, target.type === 'search');
    });
  }

  const NO_FILTER = { q: '', family: '', task: '', changed: '' };
  const nothing = '<p class="nothing">No architecture matches the filter. ' +
    '<button type="button" data-clear>Clear the filter</button></p>';

  function wireClear(box) {
    box.querySelector('[data-clear]')?.addEventListener('click', () => {
      document.querySelectorAll('.filters [type=search]').forEach((input) => { input.value = ''; });
      scenax.change(NO_FILTER);
    });
  }

  const changesOf = (machine, index) => data.figures.map((figure) => {
    const column = machine.figures[figure.key];
    return column && difference(figure, column.base[index], column.value[index]);
  });

  /** Positions of rows in order. Without a wish: what has most figures first, then by family. */
  function sorted(machine, rows, { sort, dir }) {
    const filled = (index) => data.figures.filter(({ key }) =>
      machine.figures[key] && machine.figures[key].value[index] != null).length;
    const family = (index) => `${data.models[index][1]} ${data.models[index][0]}`;
    const byFamily = (a, b) => family(a) < family(b) ? -1 : 1;
    const sign = dir === 'desc' ? -1 : 1;
    if (sort === 'name') {
      return rows.sort((a, b) => (data.names[a] < data.names[b] ? -1 : 1) * sign);
    }
    const column = machine.figures[sort];
    if (!column) return rows.sort((a, b) => filled(b) - filled(a) || byFamily(a, b));
    return rows.sort((a, b) => {
      const [left, right] = [column.value[a], column.value[b]];
      if (left == null || right == null) return (left == null) - (right == null) || byFamily(a, b);
      return (left - right) * sign || byFamily(a, b);
    });
  }

  function cell(figure, column, index, machine) {
    const value = column ? column.value[index] : null;
    if (value == null) return '<td class="none">–</td>';
    const age = column.age[index];
    const change = changeHtml(difference(figure, column.base[index], value));
    const spark = column.spark[index];
    const old = age ? ` class="old" title="of ${escape(scenax.short(
      machine.commits[machine.commits.length - 1 - age]))}, ${age} before the newest"` : '';
    // As few elements as can be: this is drawn some thousand times.
    return `<td${old}>${number(figure, value)}${
      spark || change ? `<span class="moved" data-spark="${spark}">${change}</span>` : ''}</td>`;
  }

  function header(key, title, unit, { sort, dir }, first) {
    const active = sort === key;
    const state = active ? (dir === 'desc' ? 'descending' : 'ascending') : 'none';
    const arrow = active ?
      `<span aria-hidden="true" class="arrow">${dir === 'desc' ? '▼' : '▲'}</span>` : '';
    // "compile time of a training step": what it is of goes to the small print.
    const [main, of] = title.split(' of ');
    const small = [of && `of ${of}`, unit].filter(Boolean).join(', ');
    return `<th scope="col" aria-sort="${state}"><button type="button" data-sort="${key}"
      data-first="${first}">${escape(main)}${arrow}${
      small ? ` <small>${escape(small)}</small>` : ''}</button></th>`;
  }

  function rowHtml(machine, figures, index) {
    const [name, family] = data.models[index];
    const link = scenax.address('model', { machine: scenax.read().params.machine }, name);
    return `<tr><th scope="row"><a href="${link}">${scenax.breakable(name)}</a><small>${escape(family)}</small></th>${
      figures.map((figure) => cell(figure, machine.figures[figure.key], index, machine)).join('')}</tr>`;
  }

  /** What the changes are against, in words. */
  function baseLine(machine) {
    const { commits, base } = machine;
    const newest = `Newest: ${scenax.commitHtml(commits[commits.length - 1])}.`;
    if (commits.length < 2) return `${newest} It is the only commit so far: nothing to compare with.`;
    const [, , , tags] = commits[base];
    const since = tags.length ? `since the last release, ${escape(tags.join(', '))}` :
      'since the oldest commit here (no release is tagged)';
    return `${newest} Changes are ${since}, <code>${
      escape(scenax.short(commits[base]))}</code> of ${scenax.date(commits[base])}.`;
  }

  /** What has to be known to read figures rightly. */
  const notesOf = (figures) => figures.filter(({ note }) => note).map(({ title, note }) =>
    `<p class="base">${escape(title)}: ${escape(note)}</p>`).join('');

  function machineLine(machine) {
    const facts = [...Object.entries(machine.fields).filter(([, value]) => value)
      .map(([key, value]) => `${key} ${value}`),
    ...scenax.pairs(machine.notes.versions), ...scenax.pairs(machine.notes.conditions)];
    return `<p class="facts"><strong>${escape(machine.name)}</strong> ${
      facts.map((fact) => `<span>${escape(fact)}</span>`).join('')}</p>`;
  }

  function fill(main) {
    const { params } = scenax.read();
    const machine = scenax.machine();
    const figures = data.figures.filter(({ key }) => machine.figures[key]);
    main.querySelector('[name=changed]').checked = params.changed === '1';
    let rows = scenax.matching(params);
    if (params.changed === '1') {
      rows = rows.filter((index) => changesOf(machine, index).some((change) => change?.verdict));
    }
    const body = sorted(machine, rows, params).map((index) => rowHtml(machine, figures, index));
    const heads = figures.map((figure) =>
      header(figure.key, figure.title, figure.unit, params, figure.higher ? 'desc' : 'asc'));
    main.querySelector('#count').textContent = `${rows.length} of ${data.models.length} architectures`;
    const box = main.querySelector('.rows');
    box.innerHTML = body.length ? `<div class="scroll" tabindex="0" role="region"
      aria-label="Figures of architectures"><table class="figures${
      figures.length > 5 ? ' wide' : ''}" style="--count: ${figures.length}"><thead><tr>${
      header('name', 'architecture', '', params, 'asc')}${heads.join('')}</tr></thead><tbody>${
      body.join('')}</tbody></table></div>` : nothing;
    wireClear(box);
    scenax.watchSparks(box);
  }

  function sortBy({ dataset }) {
    const { sort, dir } = scenax.read().params;
    const other = dir === 'desc' ? 'asc' : 'desc';
    scenax.change({ sort: dataset.sort, dir: sort === dataset.sort ? other : dataset.first });
    document.querySelector(`[data-sort="${dataset.sort}"]`).focus();
  }

  function draw(main) {
    const { params } = scenax.read();
    const machine = scenax.machine();
    main.innerHTML = `<h1>Architectures</h1>${machineLine(machine)}<p class="base">${baseLine(machine)}</p>
      ${notesOf(data.figures.filter(({ key }) => machine.figures[key]))}
      ${filters(params, check('changed', 'only changed', false) +
        '<output id="count" aria-live="polite"></output>')}<div class="rows"></div>`;
    wire(main.querySelector('form'));
    main.querySelector('.rows').addEventListener('click', (event) => {
      const button = event.target.closest('[data-sort]');
      if (button) sortBy(button);
    });
    fill(main);
  }

  function drawLibrary(main) {
    const machine = scenax.machine();
    const { rows, value, base, spark } = machine.library;
    const body = rows.map(([benchmark, parameter, unit], index) => {
      const change = changeHtml(difference(scenax.library(unit), base[index], value[index]));
      return `<tr><th scope="row">${escape(benchmark)}</th><td class="text">${escape(parameter)}</td>
        <td>${escape(scenax.measured(value[index], unit))}</td>
        <td data-spark="${spark[index]}"></td><td>${change}</td></tr>`;
    });
    const table = `<div class="scroll" tabindex="0" role="region" aria-label="Library"><table>
      <thead><tr><th scope="col">benchmark</th><th scope="col" class="text">parameter</th><th scope="col">newest</th>
      <th scope="col">history</th><th scope="col">change</th></tr></thead>
      <tbody>${body.join('')}</tbody></table></div>`;
    main.innerHTML = `<h1>Library</h1>${machineLine(machine)}<p class="base">${baseLine(machine)}
      Lower is better everywhere.</p>${body.length ? table :
      '<p class="nothing">This machine has figures of architectures only.</p>'}`;
    scenax.watchSparks(main);
  }

  scenax.views = { table: { draw, fill }, library: { draw: drawLibrary } };
  Object.assign(scenax, { filters, check, wire, wireClear, nothing, machineLine, notesOf });
})(window.scenax);
